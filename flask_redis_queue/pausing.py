"""Queues that rest: an operator paused them, or a handler's surroundings are in trouble.

A database that is away for an hour must cost no message an attempt: what failed goes back, and the
queue rests, longer each time, until one message, the probe, gets through.
"""

from __future__ import annotations

import logging
import random
import threading
import time

from .envelope import Message
from .functions import text_of

_logger = logging.getLogger("flask_redis_queue")

_FIRST, _LONGEST = 0.5, 30.0
"""Seconds of the first rest and the longest one."""
_REMIND = 600.0
"""Seconds between two lines about the same trouble."""


class Pauses:
    """Which queues of one consumer rest, and until when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._until: dict[str, float] = {}
        self._waits: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self.by_operator: set[str] = set()

    def note_operator(self, queue: str, reason: str) -> None:
        """Note what a turn said about the operator's pause.

        :param queue: Which queue.
        :param reason: Why it is paused; ``""``: it is not.
        """
        if reason and queue not in self.by_operator:
            self.by_operator.add(queue)
            _logger.warning("%s is paused: %s", queue, reason)
        elif not reason and queue in self.by_operator:
            self.by_operator.discard(queue)
            _logger.warning("%s goes on", queue)

    def begin(self, queue: str, message: Message, error: BaseException) -> None:
        """Note a failure of the surroundings.

        :param queue: Whose handler met it.
        :param message: What it was given.
        :param error: What it raised.
        """
        now = time.monotonic()
        with self._lock:
            if now < self._until.get(queue, 0.0):
                return  # a neighbour of the same moment
            wait = min(self._waits.get(queue, _FIRST / 2) * 2, _LONGEST)
            self._waits[queue] = wait
            self._until[queue] = now + wait * random.uniform(0.5, 1.0)
            said = f"{type(error).__name__}: {text_of(error).partition(chr(10))[0]}"
            if queue not in self._since:
                self._since[queue] = self._told[queue] = now
                _logger.warning(
                    "%s rests: %s. Its messages wait and lose no attempt; a probe tries every %gs "
                    "at most.",
                    queue,
                    said,
                    _LONGEST,
                )
            elif now - self._told[queue] >= _REMIND:
                # A message that always raises this would hold up its queue: so it is named.
                self._told[queue] = now
                _logger.warning(
                    "%s still rests, after %.0f min: %s. The probe is %s %s",
                    queue,
                    (now - self._since[queue]) / 60,
                    said,
                    message.type or "an untyped message,",
                    message.id,
                )

    def end(self, queue: str, took: float) -> None:
        """Note that a message of a resting queue got through.

        :param queue: Which queue.
        :param took: For how many seconds its handler ran: one that was begun before the trouble
            says nothing of it.
        """
        with self._lock:
            since = self._since.get(queue)
            if since is not None and time.monotonic() - took >= since:
                del self._since[queue]
                self._until.pop(queue, None)
                self._waits.pop(queue, None)
                _logger.warning("%s goes on after %.0fs", queue, time.monotonic() - since)

    def left(self, queue: str) -> float:
        """:return: Seconds until the next probe; 0: it may be read now."""
        until = self._until.get(queue)
        return 0.0 if until is None else max(0.0, until - time.monotonic())

    def is_probing(self, queue: str) -> bool:
        """:return: Whether the queue rests, so that only one message may be tried."""
        return queue in self._since
