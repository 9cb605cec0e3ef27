"""``--max-memory``: how much a process may use, and when to look."""

from __future__ import annotations

import os

from .memory import memory_of

_WEIGH = 0.1
"""Seconds between two looks."""


class Scales:
    """Weighs this process.

    :param limit: Bytes that it may use; 0: any.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._at = 0.0

    def is_over(self, now: float) -> bool:
        """:return: Whether it uses more than it may, by a look that is due."""
        if not self._limit or now < self._at:
            return False
        self._at = now + _WEIGH
        return memory_of(os.getpid()) > self._limit
