"""For tests: make a queue believe that time has passed."""

from __future__ import annotations

import redis

from .broker import Broker
from .clients import connection
from .keys import QueueKeys


def travel(pool: redis.ConnectionPool, queue: str, milliseconds: int) -> None:
    """Bring everything that a queue waits for nearer: due times, and what it remembers of sends.

    Nothing else may use the queue meanwhile.

    :param pool: Connections.
    :param queue: Which queue.
    :param milliseconds: How far.
    """
    k = QueueKeys(queue)
    with connection(pool) as link:
        pairs = link.call("ZRANGE", k.delayed, 0, -1, "WITHSCORES")
        for member, due in zip(pairs[::2], pairs[1::2], strict=True):
            link.call("ZADD", k.delayed, float(due) - milliseconds, member)
        for pattern in (k.seen("*"), k.dedup("*")):
            for key in link.call("KEYS", pattern):
                left = link.call("PTTL", key) - milliseconds
                link.call("PEXPIRE", key, max(left, 0))


class TravellingBroker(Broker):
    """A broker that tells senders the time of the test, for ``expires=``."""

    travelled = 0.0

    def server_time(self) -> float:
        """:return: The server's time, and what has passed in the test. Unix seconds."""
        return super().server_time() + self.travelled
