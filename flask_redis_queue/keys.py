"""The names of all Redis keys, in one place.

Every key of queue ``q`` is ``q`` itself or ``{q}:…``, so that all of them hash to one slot. The
table in ``docs/architecture.md`` says what each holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_QUEUE = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)


def check_queue_name(name: object, *, where: str = "queue") -> str:
    """Refuse a name that would break the key layout.

    :param name: The queue's name.
    :param where: What the value is called in the error.
    :return: The name.
    :raises ValueError: If it is not 1 to 100 of letters, digits, ``.``, ``_`` and ``-``.
    """
    if not isinstance(name, str) or not _QUEUE.fullmatch(name):
        raise ValueError(
            f"{where} is {name!r}. A queue name is 1 to 100 letters, digits, '.', '_' or '-'."
        )
    return name


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue.

    ``nothing`` never exists: who may wait there may wait for the queue.

    :param queue: The queue's name, which is also the key of its list of ready messages.
    """

    queue: str
    wake: str = field(init=False)
    back: str = field(init=False)
    delayed: str = field(init=False)
    leases: str = field(init=False)
    dead: str = field(init=False)
    dead_index: str = field(init=False)
    ledger: str = field(init=False)
    paused: str = field(init=False)
    nothing: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("wake", "back", "delayed", "leases", "dead", "ledger", "paused", "nothing"):
            object.__setattr__(self, name, f"{{{self.queue}}}:{name}")
        object.__setattr__(self, "dead_index", f"{{{self.queue}}}:dead:index")

    def held(self, consumer: str) -> str:
        """:return: The key of what one consumer holds."""
        return f"{{{self.queue}}}:held:{consumer}"

    def seen(self, request: str) -> str:
        """:return: The key that says that a send request was applied."""
        return f"{{{self.queue}}}:seen:{request}"

    def dedup(self, key: str) -> str:
        """:return: The key that holds the first id sent with a ``dedup=`` key."""
        return f"{{{self.queue}}}:dedup:{key}"
