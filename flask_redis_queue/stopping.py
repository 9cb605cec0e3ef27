"""Stopping: SIGTERM and SIGINT, the time that running handlers get, and what happens after it."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from .processor import Guard, Interrupted

_logger = logging.getLogger("flask_redis_queue")

_GRACE = 2.0
"""Seconds that an interrupted handler gets for its ``finally`` blocks."""


class StopSwitch:
    """Asks a consumer to stop, and interrupts its handler when it takes too long.

    In the main thread it takes SIGTERM and SIGINT over while it is entered.

    :param timeout: Seconds that a running handler gets.
    :param guard: Whether a handler runs.
    :param on_stuck: Called when a handler cannot be interrupted: it sits in C code, or in a thread
        that gets no signals.
    """

    def __init__(self, timeout: float, guard: Guard, on_stuck: Callable[[], None]) -> None:
        self.timeout = timeout
        self.event = threading.Event()
        self.was_late = False
        self._guard = guard
        self._on_stuck = on_stuck
        self._deadline = float("inf")
        self._interrupted_at: float | None = None
        self._is_main = False
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """:return: Whether the consumer is to stop."""
        return self.event.is_set()

    def request(self) -> None:
        """Ask for a stop; a running handler gets the timeout."""
        if not self.event.is_set():
            self._deadline = time.monotonic() + self.timeout
            self.event.set()
            if self._guard.armed:
                _logger.info(
                    "stopping; 1 handler running, up to %gs (Ctrl-C again to hand its message "
                    "back now)",
                    self.timeout,
                )

    def tick(self) -> None:
        """Look at the deadline; the lease thread calls this."""
        now = time.monotonic()
        if now < self._deadline or not self._guard.armed:
            return
        if self._interrupted_at is None:
            self.was_late = True
            self._interrupted_at = now
            if self._is_main:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif now - self._interrupted_at > _GRACE:
            self._interrupted_at = float("inf")  # once
            self._on_stuck()

    def __enter__(self) -> StopSwitch:
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.event.is_set():
            self.request()
        elif number == signal.SIGINT and self._guard.armed:
            self._guard.armed = False  # raised once; its `finally` blocks run undisturbed
            self.was_late = True
            self._interrupted_at = self._interrupted_at or time.monotonic()
            raise Interrupted
