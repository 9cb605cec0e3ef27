"""Trouble with Redis, said once when it starts and once when it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from . import clients, diagnosis, signals
from .config import Config
from .envelope import Message

_logger = logging.getLogger("flask_redis_queue")


class Outage:
    """Whether Redis is away now; shared by the threads of one consumer.

    :param config: Which Redis.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._since: float | None = None
        self._waits = clients.backoff()

    def begin(self, error: BaseException, running: int) -> float:
        """Note that Redis is away.

        :param error: How that showed.
        :param running: How many handlers go on.
        :return: Seconds to wait before asking again.
        """
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
                self._waits = clients.backoff()
                handlers = f"; {running} handler goes on" if running else ""
                _logger.warning(
                    "Redis connection lost: Redis at %s %s%s. Nothing is lost; retrying.",
                    self._config.safe_url,
                    diagnosis.explain(error, self._config),
                    handlers,
                )
            return next(self._waits)

    def end(self, asked: float) -> None:
        """Note that Redis has answered.

        :param asked: When it was asked, by ``time.monotonic()``: an answer to what was asked before
            the trouble began says nothing.
        """
        if self._since is None:
            return
        with self._lock:
            if self._since is not None and asked >= self._since:
                _logger.warning("Redis back after %.0fs", time.monotonic() - self._since)
                self._since = None

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
