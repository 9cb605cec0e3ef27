"""Connections that lose a request or a reply when told to, and tell a reference what arrived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from flask_redis_queue import broker as broker_scripts
from flask_redis_queue import inspector as inspector_scripts
from flask_redis_queue.clients import connection
from flask_redis_queue.scripts import Script

from .reference import item_of

FAULTS = ("request lost", "reply lost", "late")
_SCRIPTS = [
    one
    for module in (broker_scripts, inspector_scripts)
    for one in vars(module).values()
    if isinstance(one, Script)
]
_NAMES: dict[Any, str] = {key: one.name for one in _SCRIPTS for key in (one.digest, one.source)}


class FaultyPool:
    """A pool of real connections, one of whose next requests may fail.

    :param pool: The real one.
    :param arrived: What is told of each command that the server carried out, and of its reply.
    """

    def __init__(
        self, pool: Any, arrived: Callable[[str, list[str], list[Any], Any], None]
    ) -> None:
        self._pool = pool
        self._arrived = arrived
        self._fault = ""
        self._left = 0
        self.late: list[tuple[Any, ...]] = []

    def fail(self, fault: str, at: int) -> None:
        """Let the request after ``at`` others fail; ``""``: none."""
        self._fault, self._left = fault, at

    def get_connection(self, *_: Any) -> _FaultyConnection:
        """:return: A connection."""
        return _FaultyConnection(self, self._pool.get_connection())

    def release(self, one: _FaultyConnection) -> None:
        """Take a connection back."""
        self._pool.release(one.raw)

    def arrive(self) -> None:
        """The request that was late arrives; nobody reads the reply."""
        command = self.late.pop(0)
        with connection(self._pool) as link:
            try:
                reply = link.call(*command)
            except redis.exceptions.NoScriptError:
                return  # its sender never heard that it must send the text
        self.tell(command, reply)

    def tell(self, command: tuple[Any, ...], reply: Any) -> None:
        """Tell the reference."""
        if command[0] == "BLMOVE":
            self._arrived("move", [], [], reply)
        elif command[0] in ("EVAL", "EVALSHA"):
            end = 3 + command[2]
            self._arrived(_NAMES[command[1]], [*command[3:end]], [*command[end:]], reply)

    def next_fault(self) -> str:
        """:return: What goes wrong with the request that is about to go out."""
        self._left -= 1
        if self._left >= 0:
            return ""
        fault, self._fault = self._fault, ""
        return fault


class _FaultyConnection:
    """One of its connections."""

    def __init__(self, pool: FaultyPool, raw: Any) -> None:
        self.raw = raw
        self._pool = pool
        self._sent: list[tuple[Any, ...]] = []
        self._is_lost = False

    def send_command(self, *command: Any) -> None:
        """Send a command, unless it is lost."""
        fault = self._pool.next_fault()
        if fault in ("request lost", "late"):
            # Of a pipeline, the part before it is not lost: the server goes on without us.
            self._read_all()
            if fault == "late" and not self._pool.late:
                self._pool.late.append(command)
            raise redis.ConnectionError(fault)
        self.raw.send_command(*command)
        self._sent.append(command)
        self._is_lost = self._is_lost or fault == "reply lost"

    def read_response(self) -> Any:
        """Read a reply, unless it is lost: then so are all behind it."""
        if self._is_lost:
            self._read_all()
            raise redis.ConnectionError("reply lost")
        return self._read()

    def disconnect(self) -> None:
        """Close it."""
        self.raw.disconnect()

    def _read(self) -> Any:
        command = self._sent.pop(0)
        reply = self.raw.read_response()
        self._pool.tell(command, reply)
        return reply

    def _read_all(self) -> None:
        while self._sent:
            try:
                self._read()
            except redis.ResponseError:
                continue


def agree(script: str, expected: Any, reply: Any) -> None:
    """Compare what a script answered with what it should, without times."""
    if script == "enter":
        assert expected == reply[1:]
        return
    if not isinstance(reply, list):
        assert expected == reply, script
        return
    told = [one.decode() if isinstance(one, bytes) else one for one in reply]
    if script == "bury":
        assert expected == told
    elif script == "turn" and told[0] == "ok":
        _, _, settled, held, waiting, due_ms, paused, large, *_ = told
        due = 0 if due_ms < 0 else 2 if due_ms == 0 else 1
        assert expected == [
            "ok",
            settled,
            held,
            waiting,
            due,
            paused,
            large,
            *map(item_of, reply[8:]),
        ]
    elif script == "beat":
        assert set(told[2:]) <= set(expected[1:])
        assert [expected[0], min(10, len(expected) - 1)] == [told[0], len(told) - 2]
    elif script == "resync" and told[0] == "ok":
        assert expected == ["ok", told[2], *sorted(told[3:])]
    else:
        assert expected == [told[0], *told[2:]], script
