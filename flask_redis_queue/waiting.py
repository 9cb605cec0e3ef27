"""Waiting for several queues at once: one waiter thread a queue, armed while all are empty.

BLMOVE takes one source, and a consumer of one queue waits by itself. A waiter's BLMOVE is only an
alarm clock: every turn drains ``wake`` first, whoever filled it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import redis
from redis.exceptions import RedisError

from . import clients
from .broker import Broker
from .diagnosis import NotSent


class Waiters:
    """The waiter threads of one consumer.

    :param broker: The app's queues.
    :param pool: Connections that may wait.
    :param queues: What to wait for.
    """

    def __init__(self, broker: Broker, pool: redis.ConnectionPool, queues: Sequence[str]) -> None:
        self._broker = broker
        self._pool = pool
        self._condition = threading.Condition()
        self._round = 0
        self._armed = 0.0
        self._woken = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(queue,), name=f"wait-{queue}", daemon=True)
            for queue in queues
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until any of the queues has something.

        :param seconds: At most this long.
        """
        with self._condition:
            self._round += 1
            self._armed, self._woken = seconds, False
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._woken or self._closed, timeout=seconds)

    def close(self) -> None:
        """End the threads; each ends when its wait does, and closes the connection it used."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _run(self, queue: str) -> None:
        seen = 0
        while True:
            with self._condition:
                while not self._closed and self._round <= seen:
                    self._condition.wait()
                if self._closed:
                    break
                seen, seconds = self._round, self._armed
            try:
                woken = self._broker.wait(self._pool, queue, max(seconds, 0.001))
            except (NotSent, RedisError):
                continue  # the consumer's own turn meets the same trouble and tells it
            if woken:
                with self._condition:
                    self._woken = True
                    self._condition.notify_all()
        clients.close(self._pool)
