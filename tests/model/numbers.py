"""Incarnations with numbers instead of random ends, so that a history has one result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask_redis_queue import subscription


class Numbers:
    """Stands where ``subscription`` expects ``os``.

    :param step: By how much each number is higher than the last.
    """

    def __init__(self, step: int) -> None:
        self.next = 0
        self._step = step

    def urandom(self, size: int) -> bytes:
        """:return: The next number."""
        number = self.next
        self.next += self._step
        return number.to_bytes(size, "big")


@contextmanager
def numbered(step: int = 0) -> Iterator[Numbers]:
    """Let subscriptions call their incarnations so.

    :param step: 0: whoever explores sets ``next``.
    """
    original = subscription.os
    numbers = Numbers(step)
    subscription.os = numbers  # type: ignore[assignment]
    try:
        yield numbers
    finally:
        subscription.os = original
