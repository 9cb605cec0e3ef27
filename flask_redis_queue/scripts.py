"""The Lua scripts: loaded from the package once, run by their digest."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any, Protocol

from redis.exceptions import NoScriptError


class Caller(Protocol):
    """What runs a command: a borrowed connection."""

    def call(self, *args: Any) -> Any:
        """Send one command and read its reply."""


class Script:
    """One transition of ``lua/``, with the shared part before it.

    :param name: The file's name without ``.lua``.
    """

    def __init__(self, name: str) -> None:
        folder = resources.files(__package__) / "lua"
        self.name = name
        self.shared, self.own = (
            (folder / f"{part}.lua").read_text("utf-8") for part in ("_common", name)
        )
        self.source = f"{self.shared}\n{self.own}".encode()
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def run(self, connection: Caller, keys: list[str], args: list[Any]) -> Any:
        """Run it by digest, or by its text where the server does not know it (yet, or any more).

        :param connection: Where to.
        :param keys: Every key that it may touch.
        :param args: Its arguments.
        :return: The reply.
        """
        try:
            return connection.call("EVALSHA", self.digest, len(keys), *keys, *args)
        except NoScriptError:
            # Refused before anything ran, so that this is no repeat.
            return connection.call("EVAL", self.source, len(keys), *keys, *args)

    def command(self, keys: list[str], args: list[Any]) -> tuple[Any, ...]:
        """:return: The command that runs it by digest, for a pipeline."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)
