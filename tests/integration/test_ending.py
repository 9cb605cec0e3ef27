"""A consumer that a program runs leaves nothing of itself in Redis, and no open connection."""

from __future__ import annotations

import threading

import pytest
import redis

from ..apps import GOODS, StockSupplied, make_app
from ..conftest import eventually


def connections(url: str, name: str) -> int:
    """:return: How many connections of this consumer the server knows."""
    with redis.Redis.from_url(url) as client:
        return sum(one["name"] == name for one in client.client_list())


@pytest.mark.parametrize(("queues", "threads"), [(1, 1), (3, 1), (1, 2)])
def test_no_connection_is_left(redis_url: str, queues: int, threads: int) -> None:
    """Whether it waits by itself or by threads, which close what they used when their wait ends."""
    app, queue = make_app(redis_url)
    names = [f"q{number}" for number in range(queues)]
    handled = threading.Event()
    for one in names:
        queue.handler(queue=one)(lambda goods: handled.set())
    consumer = queue.consumer(app, name="ending", concurrency=threads)
    running = threading.Thread(target=consumer.run)
    running.start()
    with app.app_context():
        queue.send(GOODS, queue=names[-1])
    assert handled.wait(20)
    assert connections(redis_url, "ending")
    consumer.stop()
    running.join(20)
    eventually(lambda: not connections(redis_url, "ending"), "its connections are closed")


def test_a_check_leaves_none(redis_url: str) -> None:
    """Neither does one that only looks whether it could."""
    app, queue = make_app(redis_url)
    queue.handler(StockSupplied)(print)
    consumer = queue.consumer(app, name="ending")
    consumer.check()
    eventually(lambda: not connections(redis_url, "ending"), "its connections are closed")
