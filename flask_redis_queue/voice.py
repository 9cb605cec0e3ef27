"""Who says what concerns a whole command: one of its processes, and once.

The workers of a supervisor meet the same trouble at almost the same moment. So the first one says
that it has begun and the last one that it is over, by a few bytes that all of them see. A process
that is alone has these bytes for itself, and says everything.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from contextlib import AbstractContextManager
from typing import Literal, get_args

Once = Literal["refused", "held", "misfit"]
"""That Redis refuses what a consumer does, what becomes of what was held, that no setting fits."""

_PROCESSES = 256
_SINCE, _UNTIL = _PROCESSES, _PROCESSES + 8
_ONCE: dict[Once, int] = {name: _PROCESSES + 16 + n for n, name in enumerate(get_args(Once))}
SIZE = _PROCESSES + 16 + len(_ONCE)
"""Bytes that the processes of one command share."""


class Voice:
    """What one process may say for all of them.

    :param memory: What they share; ``None``: it is alone.
    :param start: From which byte on.
    :param process: Its number, from 0.
    :param lock: Keeps the others out for a moment.
    """

    def __init__(
        self,
        memory: mmap.mmap | bytearray | None = None,
        start: int = 0,
        process: int = 0,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self._memory = bytearray(SIZE) if memory is None else memory
        self._start, self._own = start, start + process
        self._lock = lock or threading.Lock()

    def begin(self, since: float) -> bool:
        """Note that this process is in trouble.

        :param since: From when on, by ``time.monotonic()``, which all processes share.
        :return: Whether to say it: the others are not.
        """
        with self._lock:
            is_first = not self._is_anybody_in_trouble()
            if is_first or since < self._moment(_SINCE):
                self._set_moment(_SINCE, since)
            self._memory[self._own] = 1
            return is_first

    def end(self) -> float | None:
        """Note that this process is in trouble no more.

        :return: Since when there was trouble, if it is over for all of them: then to be said.
        """
        with self._lock:
            self._memory[self._own] = 0
            if self._is_anybody_in_trouble():
                return None
            self._set_moment(_UNTIL, time.monotonic())
            self._memory[self._start + _ONCE["held"]] = 0
            return self._moment(_SINCE)

    def forget(self) -> None:
        """Note that this process has ended, and that no other takes its place."""
        with self._lock:
            self._memory[self._own] = 0

    @property
    def is_in_trouble(self) -> bool:
        """:return: Whether this process is, or the one that it has replaced was when it died."""
        return bool(self._memory[self._own])

    def has_waited(self, since: float) -> bool:
        """Note that an answer came late.

        :param since: From when on it was waited for.
        :return: Whether to say it: nothing has been said of that time yet.
        """
        with self._lock:
            if self._is_anybody_in_trouble() or since < self._moment(_UNTIL):
                return False
            self._set_moment(_UNTIL, time.monotonic())
            return True

    def is_first(self, what: Once) -> bool:
        """:return: Whether to say this: nobody has."""
        with self._lock:
            was_said = self.was_said(what)
            self._memory[self._start + _ONCE[what]] = 1
            return not was_said

    def was_said(self, what: Once) -> bool:
        """:return: Whether somebody has said this."""
        return bool(self._memory[self._start + _ONCE[what]])

    def _is_anybody_in_trouble(self) -> bool:
        return 1 in self._memory[self._start : self._start + _PROCESSES]

    def _moment(self, at: int) -> float:
        (value,) = struct.unpack_from("d", self._memory, self._start + at)
        return float(value)

    def _set_moment(self, at: int, value: float) -> None:
        struct.pack_into("d", self._memory, self._start + at, value)
