"""How much a consumer takes at once, what it has done, and when it has had enough."""

from __future__ import annotations

from dataclasses import dataclass

from .outcomes import Ack, DeadLetter, Expired, HandBack, Outcome, Paused, RetryLater

_WORK = 0.05
"""Seconds of work that one turn should bring: more delays the settling, less costs round trips."""


@dataclass(frozen=True)
class Limits:
    """When a consumer stops by itself.

    :param burst: When its queues are empty.
    :param max_messages: After so many messages; 0: never.
    :param max_seconds: After so many seconds; 0: never.
    :param max_memory: When its process uses so many bytes; 0: never.
    """

    burst: bool = False
    max_messages: int = 0
    max_seconds: float = 0.0
    max_memory: int = 0


@dataclass
class Tally:
    """What a consumer has done."""

    handled: int = 0
    retried: int = 0
    dead: int = 0
    expired: int = 0
    handed_back: int = 0

    @property
    def total(self) -> int:
        """:return: Messages that were finished, well or not."""
        return self.handled + self.retried + self.dead + self.expired

    def add_dead(self, count: int) -> None:
        """Count dead letters that no outcome made."""
        self.dead += count

    def count(self, outcome: Outcome) -> None:
        """Count one more."""
        match outcome:
            case Ack():
                self.handled += 1
            case RetryLater():
                self.retried += 1
            case DeadLetter():
                self.dead += 1
            case Expired():
                self.expired += 1
            case HandBack():
                self.handed_back += 1
            case Paused():
                pass  # it waits on its queue, and is tried again here


class Pace:
    """Learns how long a message takes, and says how many to ask for.

    :param most: Never more than so many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._each = 0.0
        self._last = 0

    def note(self, each: float) -> None:
        """Learn from one message.

        :param each: Seconds until another one can be run.
        """
        self._each = each if not self._each else 0.95 * self._each + 0.05 * each

    def appetite(self, left: int | None) -> int:
        """Say how many to ask for: about 50 ms of work, and at most four times the last.

        :param left: No more than these may still be run; ``None``: any number.
        :return: At least 1.
        """
        most = self._most if left is None else min(self._most, left)
        fits = int(_WORK / self._each) if self._each else 1
        self._last = max(1, min(fits, most, max(1, self._last) * 4))
        return self._last
