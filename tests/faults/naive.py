"""The pair that everybody writes first, LPUSH and BRPOP, in the same harness as the real one.

The checker must be red on it: a message is gone from Redis before it is handled, and a producer
that got no answer pushes once more.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import redis

from ..apps import QUEUE
from .ledger import APPLIED, STARTED, Pen

MOST = 1000
"""Messages that may wait, as REDIS_QUEUE_MAX_LENGTH says for the real pair."""


def sender(url: str) -> Callable[[str, int], bool]:
    """:return: What sends one message, and says whether that was acknowledged."""
    client = redis.Redis.from_url(url, socket_timeout=1)

    def send(id: str, number: int) -> bool:
        try:
            if client.llen(QUEUE) >= MOST:
                return False
            client.lpush(QUEUE, json.dumps({"id": id, "quantity": number}))
        except redis.RedisError:
            return False
        return True

    return send


def consume(url: str, pen: Pen, work: float, stopping: threading.Event) -> None:
    """Handle messages until it is told to stop.

    :param url: Which Redis.
    :param pen: Where to write down what was done.
    :param work: Seconds that a handler takes.
    :param stopping: Tells it.
    """
    client = redis.Redis.from_url(url, socket_timeout=2)
    while not stopping.is_set():
        try:
            popped = client.brpop([QUEUE], timeout=0.5)
        except redis.RedisError:
            time.sleep(0.05)
            continue
        if popped is not None:
            id = json.loads(popped[1])["id"]
            pen.write(STARTED, id)
            time.sleep(work)
            pen.write(APPLIED, id)
