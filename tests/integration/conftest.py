"""What the tests on a real server share."""

from __future__ import annotations

import time

import pytest

from flask_redis_queue import guard, stopping


class Clock:
    """What a handler's ``timeout=`` goes by."""

    def __init__(self) -> None:
        self.ahead, self.looks = 0.0, 0

    def monotonic(self) -> float:
        """:return: The time, and what was leapt over."""
        self.looks += 1
        return time.monotonic() + self.ahead

    def leap(self, seconds: float) -> None:
        """Let time pass at once; looks are counted from here."""
        self.ahead, self.looks = self.ahead + seconds, 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the guards and of who looks after them."""
    made = Clock()
    for module in (guard, stopping):
        monkeypatch.setattr(module, "time", made)
    return made
