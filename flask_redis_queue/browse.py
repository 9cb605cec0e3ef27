"""Looking at single messages where they stand, without taking them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from .clients import Connection, connection
from .envelope import Delivery, Malformed, Message, decode, parse_delivery
from .keys import QueueKeys

_PAGE = 100
_VARIES = re.compile(r"0x[0-9a-fA-F]+|\b(?=\w*\d)[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,})*\b|\d+")
"""Ids, addresses and numbers in the text of an error."""


def _message_of(delivery: Delivery) -> Message | None:
    try:
        return decode(delivery)
    except Malformed:
        return None


@dataclass(frozen=True)
class Found:
    """A message, and where it stands.

    :param place: ``ready``, ``handed back``, ``held by …`` or ``delayed``.
    :param delivery: Its exact bytes, and what the queue knows of them.
    :param due: When it is ready, Unix seconds by the server's clock; ``None``: now, or taken.
    """

    place: str
    delivery: Delivery
    due: float | None = None

    @property
    def message(self) -> Message | None:
        """:return: The message, if it can be decoded."""
        return _message_of(self.delivery)

    @property
    def id(self) -> str:
        """:return: The message's id; ``""``: it gets one when it is taken."""
        message = self.message
        return message.id if message is not None else self.delivery.birth

    @property
    def type(self) -> str | None:
        """:return: The message's type, if it has one."""
        message = self.message
        return message.type if message is not None else None


@dataclass(frozen=True)
class DeadLetterRecord:
    """A dead letter.

    :param key: Its name among the dead letters.
    :param died: When, Unix seconds by the server's clock.
    :param delivery: The exact bytes and what the queue knew of them.
    :param meta: What the consumer noted: ``cause``, ``why`` and more.
    """

    key: str
    died: float
    delivery: Delivery
    meta: dict[str, Any]

    @property
    def message(self) -> Message | None:
        """:return: The message, if it can be decoded."""
        return _message_of(self.delivery)

    @property
    def id(self) -> str:
        """:return: The message's id; of what has none, its birth."""
        noted = self.meta.get("id")
        if isinstance(noted, str):
            return noted
        message = self.message
        return message.id if message is not None else self.delivery.birth

    @property
    def type(self) -> str | None:
        """:return: The message's type, if it has one."""
        noted = self.meta.get("type")
        if isinstance(noted, str):
            return noted
        message = self.message
        return message.type if message is not None else None

    @property
    def group(self) -> str:
        """:return: The same for dead letters of one cause; ids and numbers make no difference."""
        why = _VARIES.sub("…", str(self.meta.get("why", "")))
        parts = (self.meta.get("cause"), self.meta.get("error"), self.meta.get("frame"), why)
        text = "\n".join(str(part) for part in (self.delivery.queue, self.type, *parts))
        # An error may name a file by half a surrogate pair, which has no code.
        return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]


def ready(pool: redis.ConnectionPool, queue: str) -> Iterator[Found]:
    """Go through what is ready, in the order in which it will be taken.

    :param pool: Connections.
    :param queue: Which queue.
    :return: Each message.
    """
    k = QueueKeys(queue)
    with connection(pool) as link:
        for stored in _from_the_right(link, k.back):
            yield Found("handed back", parse_delivery(queue, "", stored))
        for key in (k.wake, k.queue):
            for raw in _from_the_right(link, key):
                yield Found("ready", Delivery(queue, "", "", 0, 0, 0, raw))


def everything(pool: redis.ConnectionPool, queue: str) -> Iterator[Found]:
    """Go through all messages of a queue but its dead letters.

    :param pool: Connections.
    :param queue: Which queue.
    :return: Each message.
    """
    k = QueueKeys(queue)
    with connection(pool) as link:
        for name in link.call("ZRANGE", k.leases, 0, -1):
            consumer = name.decode()
            fields = link.call("HGETALL", k.held(consumer))
            for tag, stored in zip(fields[::2], fields[1::2], strict=True):
                if tag != b"#":
                    delivery = parse_delivery(queue, tag.decode(), stored)
                    yield Found(f"held by {consumer}", delivery)
        start = 0
        while pairs := link.call("ZRANGE", k.delayed, start, start + _PAGE - 1, "WITHSCORES"):
            for stored, due in zip(pairs[::2], pairs[1::2], strict=True):
                yield Found("delayed", parse_delivery(queue, "", stored), float(due) / 1000)
            start += _PAGE
    yield from ready(pool, queue)


def _from_the_right(link: Connection, key: str) -> Iterator[Any]:
    end = -1
    while page := link.call("LRANGE", key, end - _PAGE + 1, end):
        yield from reversed(page)
        end -= _PAGE


def read_dead(queue: str, key: str, died: float, record: bytes) -> DeadLetterRecord:
    """Read what the queue stores for a dead letter.

    :param queue: Of which queue.
    :param key: Its name among the dead letters.
    :param died: When, Unix seconds.
    :param record: What is stored.
    :return: The dead letter.
    """
    head, _, rest = record.partition(b"\n")
    meta, _, raw = rest.partition(b"\n")
    delivery = parse_delivery(queue, key, head + b"\n" + raw)
    return DeadLetterRecord(key, died, delivery, json.loads(meta))
