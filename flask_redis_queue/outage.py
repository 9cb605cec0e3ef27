"""Trouble with Redis, said once when it starts and once when it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from . import clients, diagnosis, durations, signals
from .config import Config
from .envelope import Message
from .voice import Voice

_logger = logging.getLogger("flask_redis_queue")

_LONG = 2.0
"""Seconds that a late answer takes before a person who looks at a standing consumer is told why."""


class Outage:
    """Whether Redis is away now; shared by the threads of one consumer.

    :param config: Which Redis.
    :param voice: What this process may say for its whole command; ``None``: everything.
    """

    def __init__(self, config: Config, voice: Voice | None = None) -> None:
        self._config = config
        self._voice = voice or Voice()
        self._lock = threading.Lock()
        # Where a worker died in trouble, the one in its place is the one to say that it is over.
        self._noticed: float | None = 0.0 if self._voice.is_in_trouble else None
        self._waits = clients.backoff()
        self._ended = 0.0

    def begin(self, error: BaseException, is_running: bool, since: float) -> float:
        """Note that Redis is away.

        :param error: How that showed.
        :param is_running: Whether handlers go on.
        :param since: When the answer was due that did not come, by ``time.monotonic()``; what lies
            ahead is now.
        :return: Seconds to wait before asking again.
        """
        now = time.monotonic()
        with self._lock:
            if self._noticed is None and since < self._ended:
                return next(clients.backoff())  # of a trouble that is over: its connection broke
            if self._noticed is None:
                self._noticed = now
                self._waits = clients.backoff()
                if self._voice.begin(min(since, now)):
                    _logger.warning(
                        "Redis connection lost: Redis at %s %s%s. Nothing is lost; retrying.",
                        self._config.safe_url,
                        diagnosis.explain(error, self._config),
                        "; running handlers go on" if is_running else "",
                    )
            return next(self._waits)

    def end(self, asked: float, due: float = float("inf")) -> None:
        """Note that Redis has answered.

        :param asked: When it was asked, by ``time.monotonic()``: an answer to what was asked before
            the trouble was noticed says nothing.
        :param due: When the answer was due, if work stood still for it.
        """
        if self._noticed is None:
            waited = time.monotonic() - due
            if waited > _LONG and self._voice.has_waited(due):
                _logger.warning(
                    "Waited %s for an answer of Redis at %s; work goes on.",
                    _text(waited),
                    self._config.safe_url,
                )
            return
        with self._lock:
            if self._noticed is None or asked < self._noticed:
                return
            self._noticed, self._ended = None, time.monotonic()
            since = self._voice.end()
            if since is not None:
                _logger.warning(
                    "Redis at %s is back after %s; work goes on.",
                    self._config.safe_url,
                    _text(time.monotonic() - since),
                )

    def tell_unfinished(self, queues: Sequence[str]) -> None:
        """Say that a consumer ends, and that Redis could not be told.

        :param queues: On which queues.
        """
        if self._voice.is_first("held"):
            _logger.warning(
                "%s: could not tell Redis that this consumer ends; what is held is handed on when "
                "its lease lapses",
                ", ".join(queues),
            )

    def tell_lost(self, queue: str, lost: Sequence[Message], waiting: int, sender: object) -> None:
        """Say that this consumer was taken for dead.

        :param queue: On which queue.
        :param lost: What was handled and not settled: it runs again elsewhere.
        :param waiting: How many it held and had not started.
        :param sender: The app, for signals.
        """
        _logger.warning(
            "%s: this consumer was taken for dead after %gs of silence, or Redis forgot it; "
            "%d handled but not settled and %d not started go to others. Entering anew.",
            queue,
            self._config.lease,
            len(lost),
            waiting,
        )
        for message in lost:
            signals.emit(signals.message_lost_lease, sender, message=message)


def _text(seconds: float) -> str:
    return durations.text(seconds if seconds < 1 else round(seconds))
