"""What a sender or a consumer asks of the broker in one request, and what a turn answers.

Each request carries its own identity, so that it may be repeated as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .envelope import Delivery


@dataclass(frozen=True, slots=True)
class SendRequest:
    """One ``send``, or one chunk of ``send_many``; safe to repeat as it stands.

    :param queue: Where to.
    :param request: Its identity.
    :param token: Which call made it: tells our own repeat from an earlier send of this id.
    :param seen_ms: How long the identity is remembered.
    :param first_id: The id of its first message.
    :param bodies: The bytes of each message.
    :param delay_ms: How long they wait before they are ready.
    :param dedup: The ``dedup=`` key, if any, and its window.
    """

    queue: str
    request: str
    token: str
    seen_ms: int
    first_id: str
    bodies: Sequence[bytes]
    delay_ms: int = 0
    dedup: tuple[str, int] | None = None


@dataclass(slots=True)
class Settlement:
    """What a turn settles: delivery tags, and what becomes of each."""

    handled: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    retried: list[tuple[str, int]] = field(default_factory=list)
    dead: list[tuple[str, str]] = field(default_factory=list)
    handed_back: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return (
            len(self.handled)
            + len(self.expired)
            + len(self.retried)
            + len(self.dead)
            + len(self.handed_back)
        )

    def tags(self) -> set[str]:
        """:return: Every tag in it."""
        pairs = [tag for tag, _ in (*self.retried, *self.dead)]
        return {*self.handled, *self.expired, *pairs, *self.handed_back}

    def only(self, tags: set[str]) -> Settlement:
        """:return: Of it, what settles these tags."""
        return Settlement(
            [tag for tag in self.handled if tag in tags],
            [tag for tag in self.expired if tag in tags],
            [pair for pair in self.retried if pair[0] in tags],
            [pair for pair in self.dead if pair[0] in tags],
            [tag for tag in self.handed_back if tag in tags],
        )

    def add(self, other: Settlement) -> None:
        """Settle what the other one settles, too."""
        self.handled += other.handled
        self.expired += other.expired
        self.retried += other.retried
        self.dead += other.dead
        self.handed_back += other.handed_back

    def arguments(self) -> list[Any]:
        """:return: Five counted lists, as ``turn.lua`` reads them."""
        args: list[Any] = [len(self.handled), *self.handled, len(self.expired), *self.expired]
        for pairs in (self.retried, self.dead):
            args.append(2 * len(pairs))
            for pair in pairs:
                args.extend(pair)
        return [*args, len(self.handed_back), *self.handed_back]


def settled_again(settlements: Iterable[Settlement], forgotten: set[str]) -> Settlement:
    """Settle once more what a server forgot, because it restarted from an older file.

    :param settlements: What was settled lately.
    :param forgotten: Tags that the server holds again.
    :return: The same for each of them; what was never settled is handed back, oldest first.
    """
    found = Settlement()
    for settlement in settlements:
        again = settlement.only(forgotten)
        forgotten = forgotten - again.tags()
        found.add(again)
    found.handed_back.extend(sorted(forgotten, key=_order))
    return found


def _order(tag: str) -> tuple[int, int]:
    seq, _, position = tag.partition("-")
    return int(seq), int(position)


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One turn of one consumer; safe to repeat as it stands, for its number names it.

    :param consumer: Which incarnation.
    :param seq: Its number.
    :param settlement: What to settle.
    :param n: Most messages to take.
    :param alone_ok: Whether the consumer holds nothing once this is settled.
    """

    consumer: str
    seq: int
    settlement: Settlement
    n: int
    alone_ok: bool


@dataclass(frozen=True, slots=True)
class TurnReply:
    """What a turn brought.

    :param status: ``"ok"``, or why nothing was changed.
    :param now: Server time in ms.
    :param settled: How many of the settled tags this consumer still held.
    :param held: How many messages it holds now.
    :param waiting: How many are ready and not taken.
    :param due_ms: When the next delayed one is due; -1: none is.
    :param paused: Why the queue is paused; ``""``: it is not.
    :param large: The births of those it found too large, which are dead letters now.
    :param deliveries: What it took.
    """

    status: Literal["ok", "gone", "stale", "behind"]
    now: int
    settled: int = 0
    held: int = 0
    waiting: int = 0
    due_ms: int = -1
    paused: str = ""
    large: Sequence[str] = ()
    deliveries: Sequence[Delivery] = ()
