"""Looking at queues, and what an operator does to them. Senders and consumers never come here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from .browse import DeadLetterRecord, read_dead
from .clients import Connection, connection
from .exceptions import QueueUnavailable
from .keys import QueueKeys
from .scripts import Script

SNAPSHOT = Script("snapshot")
REPLAY = Script("replay")
DISCARD = Script("discard")
_PAGE = 100


@dataclass(frozen=True)
class ConsumerStatus:
    """One consumer of a queue.

    :param name: Its incarnation.
    :param lease_left: Seconds until it is taken for dead.
    :param held: Messages that it holds.
    """

    name: str
    lease_left: float
    held: int


@dataclass(frozen=True)
class QueueStatus:
    """One queue at one moment.

    :param queue: Its name.
    :param waiting: Ready and not taken; what was handed back included.
    :param delayed: Due later.
    :param held: With consumers.
    :param dead: Dead letters.
    :param paused: Why it is paused; ``""``: it is not.
    :param consumers: Who reads it.
    :param ledger: What ever came in and went out.
    :param missing: Messages that came in and are nowhere: 0, or something is wrong.
    """

    queue: str
    waiting: int
    delayed: int
    held: int
    dead: int
    paused: str
    consumers: Sequence[ConsumerStatus]
    ledger: dict[str, int]
    missing: int

    @property
    def is_there(self) -> bool:
        """:return: Whether Redis has, or has had, anything of this queue."""
        return any(
            (self.waiting, self.delayed, self.held, self.dead, self.paused, self.consumers)
        ) or any(self.ledger.values())


@dataclass(frozen=True)
class ServerFacts:
    """What a person wants to know of the server.

    :param version: For example ``7.0.15`` or ``Valkey 9.1.0``.
    :param persistence: For example ``AOF everysec``; ``""``: not allowed to ask.
    :param eviction: The maxmemory policy; ``""``: not known.
    """

    version: str
    persistence: str
    eviction: str


class Inspector:
    """Looks at the queues of one app.

    :param pool: Connections.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.pool = pool

    def status(self, queue: str) -> QueueStatus:
        """Look at one queue at one moment.

        :param queue: Which.
        :return: What is there, and whether the ledger balances.
        :raises QueueUnavailable: If its consumers change too fast to look.
        """
        k = QueueKeys(queue)
        with connection(self.pool) as link:
            for _ in range(20):
                names = [name.decode() for name in link.call("ZRANGE", k.leases, 0, -1)]
                keys = [k.queue, k.wake, k.back, k.delayed, k.leases, k.ledger, k.dead_index]
                keys += [k.paused, *(k.held(name) for name in names)]
                reply = SNAPSHOT.run(link, keys, names)
                if reply[0] == b"ok":
                    return _read_status(queue, reply)
        raise QueueUnavailable(f"{queue}: its consumers change too fast to look. Try again.")

    def dead_letters(self, queue: str) -> Iterator[DeadLetterRecord]:
        """Go through the dead letters of a queue, oldest first, a page at a time.

        :param queue: Which.
        :return: Each of them.
        """
        k = QueueKeys(queue)
        start = 0
        while True:
            with connection(self.pool) as link:
                page = link.call("ZRANGE", k.dead_index, start, start + _PAGE - 1, "WITHSCORES")
                keys, scores = page[::2], page[1::2]
                records = link.call("HMGET", k.dead, *keys) if keys else []
            for key, score, record in zip(keys, scores, records, strict=True):
                if record is not None:
                    yield read_dead(queue, key.decode(), float(score) / 1000, record)
            if len(keys) < _PAGE:
                return
            start += _PAGE

    def find_dead(self, queue: str, wanted: str) -> list[DeadLetterRecord]:
        """Find dead letters by key, by message id, or by either end of an id.

        :param queue: Where.
        :param wanted: What a person typed.
        :return: All that match; more than one is for the person to decide.
        """
        whole, ends = [], []
        for one in self.dead_letters(queue):
            if wanted == one.key:
                return [one]
            if wanted == one.id:
                whole.append(one)
            elif wanted and (one.id.startswith(wanted) or one.id.endswith(wanted)):
                ends.append(one)
        return whole or ends

    def replay(
        self, queue: str, keys: Sequence[str], edited: Mapping[str, bytes] | None = None
    ) -> int:
        """Bring dead letters back to their queue; attempts and deaths begin anew.

        :param queue: Which.
        :param keys: Which dead letters, oldest first.
        :param edited: What the bytes of some of them become.
        :return: How many came back.
        """
        k = QueueKeys(queue)
        pairs = [part for key in keys for part in (key, (edited or {}).get(key, b""))]
        return self._in_pages(REPLAY, [k.dead, k.dead_index, k.back, k.ledger], pairs)

    def delete(self, queue: str, keys: Sequence[str]) -> int:
        """Delete dead letters for good.

        :param queue: Which.
        :param keys: Which dead letters.
        :return: How many there were.
        """
        k = QueueKeys(queue)
        return self._in_pages(DISCARD, [k.dead, k.dead_index, k.ledger], keys)

    def _in_pages(self, script: Script, keys: list[str], names: Sequence[str | bytes]) -> int:
        done = 0
        for start in range(0, len(names), _PAGE):
            with connection(self.pool) as link:
                done += script.run(link, keys, [*names[start : start + _PAGE]])
        return done

    def server(self) -> ServerFacts:
        """Ask the server what it is; what is not allowed to be asked is left out.

        :return: What it says.
        """
        with connection(self.pool) as link:
            link.call("PING")
            info = _ask_info(link)
            fsync = _ask_config(link, "appendfsync")
        version = info.get("redis_version", "")
        if "valkey_version" in info:
            version = f"Valkey {info['valkey_version']}"
        persistence = ""
        if "aof_enabled" in info:
            persistence = f"AOF {fsync}".strip() if info["aof_enabled"] == "1" else "no AOF"
        return ServerFacts(version, persistence, info.get("maxmemory_policy", ""))


def _ask_info(link: Connection) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in ("server", "persistence", "memory"):
        try:
            text = link.call("INFO", section)
        except redis.ResponseError:
            return found
        for line in text.decode().splitlines():
            name, colon, value = line.partition(":")
            if colon:
                found[name] = value
    return found


def _ask_config(link: Connection, name: str) -> str:
    try:
        reply = link.call("CONFIG", "GET", name)
    except redis.ResponseError:
        return ""
    return reply[1].decode() if len(reply) > 1 else ""


def _read_status(queue: str, reply: list[Any]) -> QueueStatus:
    _, now, ready, wake, back, delayed, dead, paused, fields, names = reply
    pairs = zip(fields[::2], fields[1::2], strict=True)
    ledger = {name.decode(): int(value) for name, value in pairs if name != b"entered"}
    consumers = [
        ConsumerStatus(name.decode(), (float(lease) - now) / 1000, held)
        for name, lease, held in zip(names[::3], names[1::3], names[2::3], strict=True)
    ]
    # What other programs pushed or popped since the last turn is not folded in yet.
    foreign = ready + wake - ledger.pop("listed", 0)
    if foreign:
        side = "foreign_in" if foreign > 0 else "foreign_out"
        ledger[side] = ledger.get(side, 0) + abs(foreign)
    held = sum(one.held for one in consumers)
    came = sum(ledger.get(name, 0) for name in ("sent", "delayed_sent", "foreign_in"))
    left = sum(ledger.get(n, 0) for n in ("handled", "expired", "purged", "foreign_out"))
    there = ready + wake + back + delayed + held + dead
    return QueueStatus(
        queue,
        ready + wake + back,
        delayed,
        held,
        dead,
        paused.decode(),
        consumers,
        ledger,
        came - left - there,
    )
