"""What the explorer goes through: its bounds, its states, its steps and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from . import inside
from .actor import Fault, Local
from .world import Command


class Bounds(NamedTuple):
    """What makes a world small.

    :param depth: The longest history, counted from where ``path`` leads, and from each stage of it.
    :param seconds: When to stop in any case; 0: never.
    :param incarnations: Of each consumer.
    :param turns: Of each incarnation.
    :param late: How many lost requests may be under way at once, to arrive after all.
    :param forgets: Whether the server may lose its last change, once.
    :param path: Steps in words, as :func:`tell` says them, that lead to where it is worth looking.
    """

    depth: int
    seconds: float = 0
    incarnations: int = 2
    turns: int = 4
    late: int = 0
    forgets: bool = False
    path: tuple[str, ...] = ()


class State(NamedTuple):
    """Everything that the future depends on.

    :param content: The server's, by number.
    :param locals: What each consumer knows.
    :param sender: Of the third message: ``""``, ``doubtful`` or ``done``.
    :param late: Requests that are still under way, in an order that says nothing.
    :param before: The content before the last change; -1: it cannot be lost.
    """

    content: int
    locals: tuple[Local, Local]
    sender: str = ""
    late: tuple[Command, ...] = ()
    before: int = -1


class Result(NamedTuple):
    """What was seen.

    :param counts: What happened to consumers, and how often.
    :param missed: Of the histories that had to be seen, those that were not.
    """

    states: int
    transitions: int
    depth: int
    seconds: float
    contents: int
    drained: int
    counts: Counter[str]
    missed: list[str]

    def __str__(self) -> str:
        counts = "".join(f"\n  {what}: {count}" for what, count in sorted(self.counts.items()))
        return (
            f"explored {self.states} distinct states, {self.transitions} transitions, "
            f"depth {self.depth} in {self.seconds:.1f} s "
            f"({self.contents} contents of the server; drained from {self.drained} states){counts}"
        )


NAMES = ("A", "B")
Step = tuple[str, str, Fault | None]


def tell(step: Step) -> str:
    """:return: A step in words."""
    who, action, fault = step
    return f"{who} {action}" + (f" [{fault.kind} {fault.at}]" if fault else "")


def actions(local: Local, bounds: Bounds) -> Iterator[str]:
    """:return: What one consumer can do now."""
    one = local.one
    if one is not None:
        yield "crash"
    if one is None or not one.is_entered:
        if local.number < bounds.incarnations or (one is not None and inside.entering(one)):
            yield "enter"
        return
    if inside.turns(one) < bounds.turns:
        yield "turn 1"
        if inside.pending(one) is None:  # else the first request is repeated, whatever is asked
            yield "turn 2"
    yield "dies, and its supervisor says so"
    yield "beat"
    yield "leave"
    if local.running:
        yield from ("finish ack", "finish retry", "finish dead")
        if inside.ready(one):
            yield "give"
