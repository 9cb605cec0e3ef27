"""The least that a Redis user needs: derived from the scripts themselves.

A producer, a consumer and an operator each run some of the scripts, and a script needs what it
calls, with what it calls of the shared part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from . import broker, inspector
from .keys import QueueKeys
from .scripts import Script

Role = Literal["producer", "consumer", "operator"]
ROLES: tuple[Role, ...] = ("producer", "consumer", "operator")

_COMMAND = re.compile(r"redis\.p?call\('(\w+)'")
_FUNCTION = re.compile(r"^local function (\w+)", re.MULTILINE)
_SCRIPTS: dict[Role, Sequence[Script]] = {
    "producer": (broker.SEND,),
    "consumer": (broker.ENTER, broker.TURN, broker.BEAT, broker.BURY, broker.RESYNC),
    "operator": (inspector.SNAPSHOT, inspector.REPLAY, inspector.DISCARD),
}
_OUTSIDE: dict[Role, Sequence[str]] = {
    # What is called beside the scripts. A consumer looks at its queues for the start table.
    "producer": ("time",),
    "consumer": ("blmove", "ping", "info"),
    "operator": ("ping", "info", "zrange", "hmget", "lrange", "hgetall"),
}


def commands(role: Role) -> set[str]:
    """Derive which commands a role runs.

    :param role: Which.
    :return: Their names, in lower case.
    """
    found = {"eval", "evalsha", "client|setname", *_OUTSIDE[role]}
    scripts = list(_SCRIPTS[role])
    if role == "consumer":
        scripts.append(inspector.SNAPSHOT)
        found.add("zrange")
    for script in scripts:
        found |= _commands_of(script)
    return found


def keys(role: Role, queue: str) -> list[str]:
    """Say which keys a role uses.

    :param role: Which.
    :param queue: Of which queue.
    :return: Patterns.
    """
    k = QueueKeys(queue)
    if role != "producer":
        return [queue, f"{{{queue}}}:*"]
    return [queue, k.wake, k.delayed, k.ledger, k.back, k.seen("*"), k.dedup("*")]


def rule(name: str, roles: Mapping[Role, Iterable[str]], *, knows_setinfo: bool) -> str:
    """Write the line of one user for a file of users.

    A second line for the same user would be refused there, and would take away what the first one
    gave behind ``ACL SETUSER``.

    :param name: Its name.
    :param roles: All that the user is for, each with the queues that it may use for that.
    :param knows_setinfo: Whether the server knows ``CLIENT SETINFO`` (Redis 7.2 and later, Valkey):
        others do not start with a file that names it.
    :return: The line, with ``PASSWORD`` for the password.
    """
    allowed = {"client|setinfo"} if knows_setinfo else set()
    by_queue: dict[str, list[str]] = {}
    for role, queues in roles.items():
        allowed |= commands(role)
        for queue in queues:
            by_queue.setdefault(queue, []).extend(keys(role, queue))
    granted = [f"+{command}" for command in sorted(allowed)]
    patterns = [f"~{one}" for queue, some in by_queue.items() for one in _distinct(queue, some)]
    return " ".join(
        ["user", name, "on", ">PASSWORD", "resetchannels", "-@all", *granted, *patterns]
    )


def _distinct(queue: str, patterns: Iterable[str]) -> list[str]:
    """:return: Each pattern once, and none that the one for all keys of the queue covers."""
    once = list(dict.fromkeys(patterns))
    everything = f"{{{queue}}}:*"
    return [queue, everything] if everything in once else once


def _commands_of(script: Script) -> set[str]:
    """What a script calls, directly and through the shared functions that it names."""
    pieces = _FUNCTION.split(script.shared)[1:]  # name, text up to the next one, name, …
    functions = dict(zip(pieces[::2], pieces[1::2], strict=True))
    found, seen, todo = set(_COMMAND.findall(script.own)), set(), [script.own]
    while todo:
        text = todo.pop()
        for name, body in functions.items():
            if name not in seen and re.search(rf"\b{name}\(", text):
                seen.add(name)
                found |= set(_COMMAND.findall(body))
                todo.append(body)
    return {command.lower() for command in found}
