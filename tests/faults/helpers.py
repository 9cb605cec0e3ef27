"""What the tests with trouble share."""

from __future__ import annotations

from ..conftest import eventually
from .fleet import Fleet
from .ledger import APPLIED, READY

FACTOR = 5
"""A goal is asserted at so many times its value, for machines differ."""
LOST, BACK = "Redis connection lost", "is back after"


def start_ready(fleet: Fleet, count: int = 1) -> list[str]:
    """:return: The names of consumers that are ready."""
    names = [fleet.start("consume").name for _ in range(count)]
    eventually(lambda: len(fleet.marks(READY)) == count, "all are ready", 60)
    return names


def handle(fleet: Fleet, count: int) -> None:
    """Send messages, and see them handled."""
    expected = len(set(fleet.marks(APPLIED))) + count
    fleet.send(count)
    eventually(lambda: len(set(fleet.marks(APPLIED))) == expected, f"{count} more are handled", 30)
