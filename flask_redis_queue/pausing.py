"""Queues that rest: an operator paused them, or a handler's surroundings are in trouble.

A database that is away for an hour must cost no message an attempt: what failed goes back, and the
queue rests, longer each time, until one message, the probe, gets through.

A message that always raises such an error would hold up its queue for ever. So every fifth probe
begins with the second message: where that one is handled, by the same handler, the first one is to
blame, and its failures count from then on.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Any

from .envelope import Message
from .functions import text_of
from .outcomes import Ack, DeadLetter, Outcome, Paused, RetryLater

_logger = logging.getLogger("flask_redis_queue")

_FIRST, _LONGEST = 0.5, 30.0
"""Seconds of the first rest and the longest one."""
_REMIND = 600.0
"""Seconds between two lines about the same trouble."""
_FIFTH = 5
"""Which probe asks another message, and from which failure on one may be to blame."""
_REMEMBERED = 1_000
"""Most messages that are known as failing, or to blame."""


class Pauses:
    """Which queues of one consumer rest, and until when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._until: dict[str, float] = {}
        self._waits: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._probes: dict[str, int] = {}
        self._failures: dict[tuple[str, str | None, str], int] = {}
        self._to_blame: dict[str, bool] = {}
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

    def note(self, queue: str, outcome: Outcome, took: float) -> bool:
        """Note what became of a message.

        :param queue: Where it was.
        :param outcome: What became of it.
        :param took: For how many seconds its handler ran: one that was begun before the trouble
            says nothing of it.
        :return: Whether its queue rests for it.
        """
        if isinstance(outcome, Paused):
            with self._lock:
                self._begin(queue, outcome.message, outcome.error)
            return True
        if queue in self._since or self._to_blame:
            with self._lock:
                since = self._since.get(queue)
                if since is not None and _has_run(outcome) and time.monotonic() - took >= since:
                    self._end(queue, since)
                    if isinstance(outcome, Ack):
                        self._blame(outcome.message)
                if isinstance(outcome, Ack):
                    self._to_blame.pop(outcome.message.id, None)
        return False

    def is_to_blame(self, message: Message) -> bool:
        """Say, of a message that has failed, whether it did so again where another was handled.

        :param message: Which.
        :return: Whether its failures count.
        """
        if message.id not in self._to_blame:
            return False
        with self._lock:
            is_told, self._to_blame[message.id] = self._to_blame.get(message.id, False), True
        if not is_told:
            _logger.warning(
                "%s: %s failed as the probe, and again when another message was handled. So its "
                "failures count.",
                message.queue,
                _name(message),
            )
        return True

    def _begin(self, queue: str, message: Message, error: BaseException) -> None:
        now = time.monotonic()
        if now < self._until.get(queue, 0.0):
            return  # a neighbour of the same moment
        wait = min(self._waits.get(queue, _FIRST / 2) * 2, _LONGEST)
        self._waits[queue] = wait
        self._until[queue] = now + wait * random.uniform(0.5, 1.0)
        self._probes[queue] = self._probes.get(queue, 0) + 1
        key = queue, message.type, message.id
        self._failures[key] = self._failures.pop(key, 0) + 1
        _shorten(self._failures)
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
            self._told[queue] = now
            _logger.warning(
                "%s still rests, after %.0f min: %s. The probe is %s",
                queue,
                (now - self._since[queue]) / 60,
                said,
                _name(message),
            )

    def _end(self, queue: str, since: float) -> None:
        del self._since[queue]
        self._until.pop(queue, None)
        self._waits.pop(queue, None)
        self._probes.pop(queue, None)
        _logger.warning("%s goes on after %.0fs", queue, time.monotonic() - since)

    def _blame(self, handled: Message) -> None:
        """Suspect those that failed where this one is handled; the next failure of one counts."""
        self._failures.pop((handled.queue, handled.type, handled.id), None)
        for key, count in list(self._failures.items()):
            if count < _FIFTH or key[:2] != (handled.queue, handled.type):
                continue
            del self._failures[key]
            self._to_blame[key[2]] = False
            _shorten(self._to_blame)

    def left(self, queue: str) -> float:
        """:return: Seconds until the next probe; 0: it may be read now."""
        until = self._until.get(queue)
        return 0.0 if until is None else max(0.0, until - time.monotonic())

    def probe(self, queue: str) -> int:
        """:return: How many messages may be tried of a queue that rests; 0: it does not rest."""
        probes = self._probes.get(queue, 0)  # once: another thread may end the rest meanwhile
        return 0 if probes == 0 else 2 if probes % _FIFTH == 0 else 1


def _has_run(outcome: Outcome) -> bool:
    """:return: Whether a handler ended by itself, and met no trouble of its surroundings."""
    if isinstance(outcome, DeadLetter):
        return outcome.cause in ("failed", "rejected")
    return isinstance(outcome, (Ack, RetryLater))


def _name(message: Message) -> str:
    return f"{message.type or 'an untyped message,'} {message.id}"


def _shorten(known: dict[Any, Any]) -> None:
    if len(known) > _REMEMBERED:
        del known[next(iter(known))]
