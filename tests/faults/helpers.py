"""What the tests with trouble share."""

from __future__ import annotations

import re
from collections import Counter

from ..conftest import eventually
from .fleet import Fleet
from .ledger import APPLIED, READY

FACTOR = 5
"""A goal is asserted at so many times its value, for machines differ."""
LOST, BACK = "Redis connection lost", "is back after"
_SAID = {
    # What happened, on which Redis, whether anything is lost, and what comes next.
    "lost": r"Redis connection lost: Redis at {url} \S+ \S+.*\. Nothing is lost; retrying\.",
    "back": r"(?=.*{url}).*\bback after \d+",
    "waited": r"Waited \d.* Redis at {url}; work goes on",
    "dead": r".*taken for dead after .* of silence.*not settled.* go to others\. Entering anew\.",
    "stopped": r"stopped · \d+ handled · 0 retried · 0 dead · \d+ handed back",
}


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


def said_its_end(output: str) -> bool:
    """:return: Whether a consumer has told of a trouble, and that it is over."""
    return bool(output) and output.count(LOST) == output.count(BACK)


def kinds(output: str, url: str) -> Counter[str]:
    """Read what a consumer said.

    :param output: Its lines, each with its time and its mark.
    :param url: The Redis that each line about one must name.
    :return: How many lines there are of each kind; a line of none stands for itself.
    """
    found: Counter[str] = Counter()
    for line in output.splitlines():
        text = line.split(" ", 2)[-1]
        known = (k for k, said in _SAID.items() if re.match(said.format(url=re.escape(url)), text))
        found[next(known, line)] += 1
    return found
