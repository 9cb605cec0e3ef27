"""Ending a handler that runs too long, from another thread.

What can be interrupted: Python code, and in the main thread also most waiting (sleep, sockets), for
a signal wakes it. What cannot: C code that does not return, and waiting in a thread that gets no
signals. For these only the end of the process is left.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time

from .envelope import Delivery

GRACE = 2.0
"""Seconds that an interrupted handler gets for its ``finally`` blocks."""


class Interrupted(KeyboardInterrupt):
    """Raised into a running handler when the process must stop now.

    A ``KeyboardInterrupt``, for an event loop swallows any other exception of this weight.
    """


class TimedOut(Interrupted):
    """Raised into a running handler when its ``timeout=`` is over."""


class Guard:
    """Whether a handler runs in one thread, since when, and how to end it.

    Made by the thread that runs the handlers.
    """

    def __init__(self) -> None:
        self.armed = False
        self.delivery: Delivery | None = None
        self._thread = threading.get_ident()
        self._is_main = threading.current_thread() is threading.main_thread()
        self._lock = threading.Lock()
        self._deadline = float("inf")
        self._pending: type[Interrupted] | None = None
        self._interrupted_at = float("inf")
        self._signals = 0

    def adopt(self) -> None:
        """Guard the thread that calls this, and no other any more."""
        self._thread = threading.get_ident()
        self._is_main = threading.current_thread() is threading.main_thread()

    def arm(self, timeout: float | None) -> None:
        """Say that a handler begins.

        :param timeout: Seconds that it may take; ``None``: any.
        """
        if timeout is not None:
            self._deadline = time.monotonic() + timeout
        self._interrupted_at = float("inf")
        self.armed = True

    def disarm(self) -> None:
        """Say that it has ended; what was on its way to it is called back."""
        while True:
            try:
                with self._lock:
                    self.armed = False
                    self._deadline = float("inf")
                    if self._pending is not None and not self._is_main:
                        _raise_in(self._thread, None)
                    self._pending = None
                return
            except Interrupted:  # it came between the handler's end and the lock
                continue

    def interrupt(self, error: type[Interrupted]) -> None:
        """Raise an error in the handler, if one runs and none is on its way.

        :param error: Which.
        """
        with self._lock:
            if not self.armed or self._pending is not None:
                return
            self._pending, self._interrupted_at = error, time.monotonic()
            if self._is_main:
                self._signals += 1
                signal.pthread_kill(self._thread, signal.SIGINT)
            else:
                _raise_in(self._thread, error)

    def claim_signal(self) -> bool:
        """For the signal handler of the main thread: whether a SIGINT is ours.

        :return: Whether it was sent by :meth:`interrupt`, to a handler that has ended since.
        :raises Interrupted: If that handler runs still.
        """
        if self._signals == 0:
            return False
        self._signals -= 1
        if self.armed and self._pending is not None:
            self.armed = False  # raised once; its `finally` blocks run undisturbed
            raise self._pending
        return True

    def check(self, now: float) -> bool:
        """Look at the clock.

        :param now: ``time.monotonic()``.
        :return: Whether the handler was interrupted long ago, and runs still.
        """
        if self.armed and now >= self._deadline:
            self.interrupt(TimedOut)
        is_stuck = self._pending is not None and now - self._interrupted_at > GRACE
        if is_stuck:
            self._interrupted_at = float("inf")  # said once
        return is_stuck

    @property
    def is_busy(self) -> bool:
        """:return: Whether a handler runs, or ends after it was interrupted."""
        return self.armed or self._pending is not None

    @property
    def has_timed_out(self) -> bool:
        """:return: Whether the handler was interrupted because its time was over."""
        return self._pending is TimedOut


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in a thread at its next step of Python code; ``None`` calls one back."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(error) if error is not None else None
    )
