"""The small worlds that the explorer goes through, and the histories that it must see in them.

From an empty queue it takes eight steps until a consumer that was taken for dead settles what is
another's by then: further than a test can look in all directions. So a world may begin with a path
that leads there; the search starts in each of its stages.
"""

from __future__ import annotations

from typing import NamedTuple

from .states import Bounds

A = "A-00000001"
"""How the first incarnation of A is called."""
_TAKEN = ("A enter", "B enter", "sender sends", "A turn 1")
_BURIED = (f"{A} lease ends", f"somebody buries {A}")
ZOMBIE = (*_TAKEN, *_BURIED, "B turn 1")
"""A has taken a message, is taken for dead, and B has the same message."""
LATE = (*_TAKEN, "A finish ack", "A turn 1 [late 0]", *_BURIED, "B turn 1")
"""The same, and A's settle is still under way."""
COPIES = (
    "A enter [late 0]",
    "A enter",
    "sender sends",
    "A turn 1 [late 0]",
    "A turn 1",
    "B enter",
    *_BURIED,
    "B turn 1",
    "A finish ack",
)
"""Copies of A's first two requests, which it repeated, are under way; now it is such a zombie."""


class Small(NamedTuple):
    """One world.

    :param bounds: How far a test goes.
    :param least: How many states that brings, or more.
    :param histories: Each is one of those that it must see, from an empty queue on.
    """

    bounds: Bounds
    least: int
    histories: tuple[tuple[str, ...], ...] = ()


_ZOMBIE_HISTORIES = (
    # A's settle arrives late and is refused, then B's; and the other way round.
    (*ZOMBIE, "A finish ack", "A turn 1", "B finish ack", "B turn 1"),
    (*ZOMBIE, "A finish ack", "B finish ack", "B turn 1", "A turn 1"),
    # Its reply is lost, or it was lost itself, so that it comes once more.
    (*ZOMBIE, "A finish ack", "A turn 1 [reply lost 0]", "A turn 1", "B finish ack"),
    (*ZOMBIE, "A finish ack", "A turn 1 [request lost 0]", "A turn 1", "B finish ack"),
    # B's reply is lost, and its repeat is B's own: the zombie's turn lies between them.
    (*ZOMBIE[:-1], "B turn 1 [reply lost 0]", "A finish ack", "A turn 1", "B turn 1"),
    (*ZOMBIE, "B finish ack", "B turn 1 [reply lost 0]", "A finish ack", "A turn 1"),
    # One of both crashes; or the zombie enters anew with what it believed to have settled.
    (*ZOMBIE, "A finish ack", "A crash", "B finish ack", "B turn 1"),
    (*ZOMBIE, "A finish ack", "B crash", "A turn 1", "A enter"),
)
_LATE_HISTORIES = (
    # Its settle arrives before B's or after it; and when A itself is there no more.
    (*LATE, "late turn arrives", "B finish ack", "B turn 1"),
    (*LATE, "B finish ack", "B turn 1", "late turn arrives"),
    (*LATE, "A crash", "late turn arrives", "B finish ack"),
    (*LATE, "late turn arrives", "A turn 1", "A enter"),
)
_COPIES_HISTORIES = (
    (*COPIES, "late enter arrives", "late turn arrives", "A turn 1"),
    (*COPIES, "late enter arrives", "A turn 1", "late turn arrives"),
)
_FORGETFUL_HISTORIES = (
    # What is forgotten is that B took the message, or that A was buried.
    (*ZOMBIE, "server forgets", "A finish ack", "A turn 1"),
    (*ZOMBIE[:-1], "server forgets", "A finish ack", "A turn 1"),
)
WORLDS = {
    "plain": Small(Bounds(depth=6), 90_000),
    "zombie": Small(Bounds(depth=4, path=ZOMBIE), 80_000, _ZOMBIE_HISTORIES),
    "late": Small(Bounds(depth=4, late=1), 5_000),
    "late zombie": Small(Bounds(depth=3, late=1, path=LATE), 25_000, _LATE_HISTORIES),
    "copies": Small(Bounds(depth=3, late=2, path=COPIES), 15_000, _COPIES_HISTORIES),
    "forgetful": Small(Bounds(depth=5, forgets=True), 35_000),
    "forgetful zombie": Small(
        Bounds(depth=3, forgets=True, path=ZOMBIE), 20_000, _FORGETFUL_HISTORIES
    ),
}
