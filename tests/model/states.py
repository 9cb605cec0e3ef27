"""What the explorer goes through: its bounds, its states, its steps and its result."""

from __future__ import annotations

from typing import NamedTuple

from .actor import Fault, Local
from .world import Command


class Bounds(NamedTuple):
    """What makes a world small.

    :param depth: The longest history.
    :param seconds: When to stop in any case; 0: never.
    :param incarnations: Of each consumer.
    :param turns: Of each incarnation.
    :param late: Whether a lost request may arrive after all; one at a time.
    :param forgets: Whether the server may lose its last change, once.
    """

    depth: int
    seconds: float = 0
    incarnations: int = 2
    turns: int = 4
    late: bool = False
    forgets: bool = False


class State(NamedTuple):
    """Everything that the future depends on.

    :param content: The server's, by number.
    :param locals: What each consumer knows.
    :param sender: Of the third message: ``""``, ``doubtful`` or ``done``.
    :param late: A request that is still under way.
    :param before: The content before the last change; -1: it cannot be lost.
    """

    content: int
    locals: tuple[Local, Local]
    sender: str = ""
    late: Command | None = None
    before: int = -1


class Result(NamedTuple):
    """What was seen."""

    states: int
    transitions: int
    depth: int
    seconds: float
    contents: int
    drained: int

    def __str__(self) -> str:
        return (
            f"explored {self.states} distinct states, {self.transitions} transitions, "
            f"depth {self.depth} in {self.seconds:.1f} s "
            f"({self.contents} contents of the server; drained from {self.drained} states)"
        )


NAMES = ("A", "B")
Step = tuple[str, str, Fault | None]


def tell(step: Step) -> str:
    """:return: A step in words."""
    who, action, fault = step
    return f"{who} {action}" + (f" [{fault.kind} {fault.at}]" if fault else "")
