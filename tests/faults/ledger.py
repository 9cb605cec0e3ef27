"""The ledger of a run with faults: what was attempted, acknowledged, applied; outside Redis.

Each process appends to a file of its own, one `write` a line, so that a line is there as soon as
the thing was done, and `kill -9` takes nothing back. The checker reads all files when the run is
over and trusts nothing else: neither the queue's own counters nor what a process says at its end.

A message may be applied twice only where a consumer was hurt after it had started on it and before
Redis had settled it. Who sees a consumer hurt writes down which messages that were, as `unsettled`.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from ..apps import QUEUE

ATTEMPTED, ACKNOWLEDGED = "attempted", "acknowledged"
READY, STARTED, APPLIED, UNSETTLED = "ready", "started", "applied", "unsettled"
PREFETCH = 100
"""Messages that a consumer may hold, unless it is set up otherwise."""


class Pen:
    """What one process writes with.

    :param folder: Where the ledger is.
    :param name: Whose file; one that writes under the name of its predecessor goes on in its file.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = os.open(folder / f"{name}.ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, mark: str, *words: str) -> None:
        """Append one line; it survives this process from here on."""
        os.write(self._file, " ".join((mark, *words)).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def lines(folder: Path, name: str = "*") -> Iterable[tuple[str, list[str]]]:
    """:return: Of each whole line the name of who wrote it, and its words."""
    for path in sorted(folder.glob(f"{name}.ledger")):
        # What has no end yet is being written: the kernel shows a write page by page.
        for line in path.read_text().rpartition("\n")[0].splitlines():
            yield path.stem, line.split(" ")


@dataclass
class Book:
    """What all processes wrote.

    :param attempted: Ids that a producer was about to send.
    :param acknowledged: Ids whose send returned.
    :param applied: Consumer and id of each effect, in each consumer's order.
    :param at_risk: For each id the consumers that were hurt between its start and its settling,
        and how often each.
    """

    attempted: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    applied: list[tuple[str, str]] = field(default_factory=list)
    at_risk: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def read(folder: Path) -> Book:
    """Read the ledger.

    :param folder: Where it is.
    :return: All of it.
    """
    book = Book()
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    own: Counter[tuple[str, str]] = Counter()
    for writer, (mark, *words) in lines(folder):
        if mark == ATTEMPTED:
            book.attempted.add(words[0])
        elif mark == ACKNOWLEDGED:
            book.acknowledged.add(words[0])
        elif mark == APPLIED:
            book.applied.append((writer, words[0]))
        elif mark == UNSETTLED and len(words) == 2:  # a witness says which incarnation held it
            consumer = words[1].partition("-")[0]
            seen[consumer, words[0]].add(words[1])
        elif mark == UNSETTLED:  # the consumer says so itself
            own[writer, words[0]] += 1
    # Both may tell of the same loss, which allows one more effect and not two.
    for consumer, id in seen.keys() | own.keys():
        book.at_risk[id][consumer] = max(len(seen[consumer, id]), own[consumer, id])
    return book


@dataclass(frozen=True)
class Verdict:
    """What the checker found.

    :param attempted: How many ids.
    :param acknowledged: How many ids.
    :param applied: How many effects.
    :param lost: Acknowledged, and neither applied nor dead.
    :param ghosts: Applied, and never attempted.
    :param doubled: Ids with more than one effect, and how many they have too many.
    :param unexplained: Of those, the ones for which no hurt consumer accounts.
    :param at_risk: How many effects too many the faults allow for.
    :param unacknowledged: Attempted, and never acknowledged.
    :param disorder: Effects that came before an older one of the same producer.
    :param residue: Redis keys that should not be there.
    """

    attempted: int
    acknowledged: int
    applied: int
    lost: list[str]
    ghosts: list[str]
    doubled: Counter[str]
    unexplained: list[str]
    at_risk: int
    unacknowledged: list[str]
    disorder: int
    residue: list[str]

    @property
    def is_green(self) -> bool:
        """:return: Whether the queue kept its promises; order is judged where it was promised."""
        return not (
            self.lost or self.ghosts or self.unexplained or self.unacknowledged or self.residue
        )

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} of {self.attempted:,} acknowledged, {self.applied:,} effects; "
            f"lost {len(self.lost)}, ghosts {len(self.ghosts)}, "
            f"doubled {self.doubled.total()} (at risk {self.at_risk}, "
            f"unexplained {len(self.unexplained)}), residue {len(self.residue)}: "
            + ("green" if self.is_green else "RED")
        )


def judge(book: Book, *, dead: Collection[str] = (), residue: Collection[str] = ()) -> Verdict:
    """Compare what was promised with what was done.

    :param book: The ledger.
    :param dead: Ids of dead letters.
    :param residue: See :func:`leftovers`.
    :return: The verdict.
    """
    effects = Counter(id for _, id in book.applied)
    doubled = Counter({id: times - 1 for id, times in effects.items() if times > 1})
    allowed = {id: consumers.total() for id, consumers in book.at_risk.items()}
    return Verdict(
        attempted=len(book.attempted),
        acknowledged=len(book.acknowledged),
        applied=effects.total(),
        lost=sorted(book.acknowledged - effects.keys() - set(dead)),
        ghosts=sorted(effects.keys() - book.attempted),
        doubled=doubled,
        unexplained=sorted(id for id, extra in doubled.items() if extra > allowed.get(id, 0)),
        at_risk=sum(allowed.values()),
        unacknowledged=sorted(book.attempted - book.acknowledged),
        disorder=_disorder(id for _, id in book.applied),
        residue=sorted(residue),
    )


def _disorder(ids: Iterable[str]) -> int:
    """:return: How many first effects of a producer's messages came after a newer one's."""
    newest: dict[str, int] = {}
    seen: set[str] = set()
    late = 0
    for id in ids:
        producer, _, number = id.rpartition("-")
        if id not in seen and number.isdigit():
            seen.add(id)
            late += int(number) < newest.get(producer, -1)
            newest[producer] = max(newest.get(producer, -1), int(number))
    return late


def leftovers(client: redis.Redis, queue: str = QUEUE) -> list[str]:
    """Look for what a drained queue should not have left.

    :param client: The server.
    :param queue: Which queue.
    :return: Every key but the queue's ledger, and those of requests that end by themselves.
    """
    own = f"{{{queue}}}:"
    found = []
    for key in client.scan_iter(count=1000):
        name, left = key.decode(), client.pttl(key)
        # It may have ended since it was found, or end in this very millisecond.
        is_gone, has_no_end = left == -2, left == -1
        passing = name.startswith((f"{own}seen:", f"{own}dedup:"))
        if name != f"{own}ledger" and not is_gone and (has_no_end or not passing):
            found.append(name)
    return found


def held(client: redis.Redis, consumer: str, queue: str = QUEUE) -> dict[str, set[str]] | None:
    """Look what a consumer holds.

    :param client: The server.
    :param consumer: The name that people call it.
    :return: For each of its incarnations the ids that it holds; ``None``: it has none.
    """
    found: dict[str, set[str]] = {}
    names = [name.decode() for name in client.zrange(f"{{{queue}}}:leases", 0, -1)]
    for incarnation in names:
        if not incarnation.startswith(f"{consumer}-"):
            continue
        stored: dict[bytes, bytes] = client.hgetall(f"{{{queue}}}:held:{incarnation}")
        found[incarnation] = {_id(value) for tag, value in stored.items() if tag != b"#"}
    return found or None


def _id(stored: bytes) -> str:
    event: Any = json.loads(stored.partition(b"\n")[2])
    return str(event["id"])


class Witness:
    """Writes down what a consumer had started and not settled when it was hurt.

    :param folder: Where the ledger is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pen = Pen(folder, "witness")
        self.unsettled: list[int] = []
        self.unknown = 0

    def hurt(self, client: redis.Redis, consumer: str, *, for_good: bool = False) -> None:
        """Note what may be applied again; the consumer is dead or stopped, and Redis is there.

        :param client: The server.
        :param consumer: Who was hurt.
        :param for_good: It is dead, and will not tell what it has lost.
        """
        started = self._started(consumer)
        holds = held(client, consumer)
        if holds is None and started and for_good:
            # Others had taken it for dead before, so that nobody can say any more what it held:
            # what it started last, and no more than it may ever hold.
            holds = {f"{consumer}-": set(started[-PREFETCH:])}
            self.unknown += 1
        self._note({name: ids.intersection(started) for name, ids in (holds or {}).items()})

    def hurt_naive(self, consumer: str) -> None:
        """Note the same of a naive consumer: to pop is to settle, so what it has not finished.

        :param consumer: Who was hurt.
        """
        marks = self._lives(consumer)
        applied = Counter(id for mark, id in marks if mark == APPLIED)
        unfinished = Counter(id for mark, id in marks if mark == STARTED) - applied
        self._note({f"{consumer}-": set(unfinished)})

    def _note(self, at_risk: dict[str, set[str]]) -> None:
        for incarnation, ids in at_risk.items():
            for id in ids:
                self._pen.write(UNSETTLED, id, incarnation)
        self.unsettled.append(sum(map(len, at_risk.values())))

    def _started(self, consumer: str) -> list[str]:
        return [id for mark, id in self._lives(consumer) if mark == STARTED]

    def _lives(self, consumer: str) -> list[tuple[str, str]]:
        """:return: Its lines; a worker has its name from the one that was killed before it."""
        written: list[tuple[str, str]] = []
        for _, (mark, *words) in lines(self._folder, consumer):
            if mark == READY:
                written.clear()
            written.append((mark, words[0]))
        return written

    def close(self) -> None:
        """Close its file."""
        self._pen.close()
