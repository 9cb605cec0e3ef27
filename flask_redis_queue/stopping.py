"""Stopping: SIGTERM and SIGINT, the time that running handlers get, and what happens after it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from types import FrameType, TracebackType
from typing import Any

from .guard import GRACE, Guard, Interrupted

_logger = logging.getLogger("flask_redis_queue")
_taken: dict[int, Any] = {}
"""What a signal did before a switch of this process took it over."""


class StopSwitch:
    """Asks a consumer to stop, and interrupts its handlers when they take too long.

    In the main thread it takes SIGTERM and SIGINT over while it is entered.

    :param timeout: Seconds that running handlers get.
    :param guards: Whether a handler runs, one for each thread.
    :param on_stuck: Called with the guard of a handler that cannot be interrupted, or with ``None``
        where something else does not end: a receiver of a signal, a thread of an event loop.
    """

    def __init__(
        self, timeout: float, guards: Sequence[Guard], on_stuck: Callable[[Guard | None], None]
    ) -> None:
        self.timeout = timeout
        self.event = threading.Event()
        self.was_late = False
        self._guards = guards
        self._on_stuck = on_stuck
        self._deadline = self._end_by = self._over_at = float("inf")
        self._is_ending = False
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """:return: Whether the consumer is to stop."""
        return self.event.is_set()

    def request(self) -> None:
        """Ask for a stop; running handlers get the timeout."""
        if self.event.is_set():
            return
        self._deadline = self._end_by = time.monotonic() + self.timeout
        self.event.set()
        running = sum(guard.armed for guard in self._guards)
        if running:
            _logger.info(
                "stopping; %s running, up to %gs (Ctrl-C again to hand %s back now)",
                "1 handler" if running == 1 else f"{running} handlers",
                self.timeout,
                "its message" if running == 1 else "their messages",
            )

    def begin_end(self) -> None:
        """Note that the consumer ends, whether or not it was asked to: that may not hang either."""
        self._is_ending = True

    @property
    def time_left(self) -> float:
        """:return: Seconds that are left of the timeout."""
        return max(0.0, min(self._end_by - time.monotonic(), self.timeout))

    def tick(self) -> None:
        """Look at the clock; the lease thread calls this."""
        now = time.monotonic()
        if now >= self._deadline:
            self._interrupt()
        for guard in self._guards:
            if guard.check(now):
                self._on_stuck(guard)
        self._look_at_the_rest(now)

    def _look_at_the_rest(self, now: float) -> None:
        """Look at what no guard knows of."""
        if any(guard.is_busy for guard in self._guards):
            self._over_at = float("inf")
            return
        if self._is_ending:
            self._end_by = min(self._end_by, now + self.timeout)
        if now >= self._end_by:
            self._over_at = min(self._over_at, now + GRACE)
        if now >= self._over_at:
            self._end_by = self._over_at = float("inf")  # said once
            self._is_ending = False
            self.was_late = True
            self._on_stuck(None)

    def _interrupt(self) -> None:
        for guard in self._guards:
            if guard.armed:
                self.was_late = True
                guard.interrupt(Interrupted)

    def __enter__(self) -> StopSwitch:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._on_signal)
            _taken.update(self._previous)
            _hear_of_forks()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
            _taken.pop(number, None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and any(guard.claim_signal() for guard in self._guards):
            return
        if not self.event.is_set():
            self.request()
        elif number == signal.SIGINT:
            self._deadline = self._end_by = 0.0  # the lease thread interrupts at its next tick


@cache
def _hear_of_forks() -> None:
    """See to it, once, that a process which a handler forks can be ended by a signal."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_give_back)


def _give_back() -> None:
    for number, previous in _taken.items():
        if previous is not None:  # then C code took it, and nothing here can give it back
            signal.signal(number, previous)
    _taken.clear()
