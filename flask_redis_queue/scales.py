"""``--max-memory``: how much a process may use, and when to look."""

from __future__ import annotations

import logging
import os

from .exceptions import ConfigurationError
from .memory import memory_of

_logger = logging.getLogger("flask_redis_queue")

_WEIGH = 0.1
"""Seconds between two looks."""

_MIB = 2**20


class Scales:
    """Weighs this process.

    :param limit: Bytes that it may use; 0: any.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._at = 0.0
        self._was_over = False

    def check(self) -> None:
        """Weigh it before it takes a message: that it is too heavy then is no message's fault.

        :raises ConfigurationError: If it uses more than it may already.
        """
        used = memory_of(os.getpid()) if self._limit else 0
        if used > self._limit:
            raise ConfigurationError(
                f"This process uses {used // _MIB} MiB before it has handled anything, and "
                f"--max-memory allows {self._limit // _MIB} MiB. Allow more, or have the app load "
                "less."
            )

    def is_over(self, now: float) -> bool:
        """:return: Whether it uses more than it may, by a look that is due; says so once."""
        if not self._limit or now < self._at:
            return False
        self._at = now + _WEIGH
        used = memory_of(os.getpid())
        if used > self._limit and not self._was_over:
            self._was_over = True
            _logger.info(
                "this process uses %d MiB, more than --max-memory %d MiB: it stops",
                used // _MIB,
                self._limit // _MIB,
            )
        return used > self._limit
