"""`pause_on=`: an outage costs nothing, and a message that only looks like one holds nobody up."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from flask_redis_queue import RetryPolicy, pausing
from flask_redis_queue.consumer import Consumer

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "_FIRST", 0.01)
    monkeypatch.setattr(pausing, "_LONGEST", 0.05)


@contextmanager
def running(consumer: Consumer) -> Iterator[None]:
    """A consumer in a thread of its own; an error of it is the test's."""
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(consumer.run)
        try:
            yield
        finally:
            consumer.stop()
            run.result(20)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_one_that_always_fails_like_an_outage(redis_url: str, concurrency: int) -> None:
    """The others are handled, and it ends as a dead letter, by its policy."""
    app, queue = make_app(redis_url)
    handled: list[int] = []
    policy = RetryPolicy(max_attempts=3, min="10ms", max="10ms")

    @queue.handler(StockSupplied, pause_on=ConnectionError, retry=policy)
    def handle(supplied: dict[str, Any]) -> None:
        if supplied["quantity"] == 0:
            raise ConnectionError("the server closed the connection unexpectedly")
        handled.append(supplied["quantity"])

    inspector = app.extensions["redis_queue"].inspector
    sent = itertools.count()

    def is_dead() -> int:
        # Alone in its queue it would be a probe for ever: there is nothing to tell it by.
        with app.app_context():
            queue.send(StockSupplied, {**GOODS, "quantity": next(sent)})
        return inspector.status(QUEUE).dead

    with running(queue.consumer(app, concurrency=concurrency)):
        eventually(is_dead, "it is a dead letter")
        others = list(range(1, next(sent)))
        eventually(lambda: len(handled) == len(others), "the others are handled")
    assert others == sorted(handled)
    (dead,) = inspector.dead_letters(QUEUE)
    assert (3, "failed") == (dead.meta["attempts"], dead.meta["cause"])


def test_a_long_outage_blames_nobody(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """However many probes fail, of however many messages: all are handled at their first run."""
    app, queue = make_app(redis_url)
    away = threading.Event()
    away.set()
    asked: list[int] = []
    handled: list[int] = []

    @queue.handler(StockSupplied, pause_on=ConnectionError, retry=1)
    def handle(supplied: dict[str, Any]) -> None:
        if away.is_set():
            asked.append(supplied["quantity"])
            raise ConnectionError("the database is away")
        handled.append(supplied["quantity"])

    with app.app_context():
        queue.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in range(50)])
    consumer = queue.consumer(app)
    with running(consumer):
        eventually(lambda: len(asked) >= 21, "it has probed")
        away.clear()
        eventually(lambda: len(handled) == 50, "all are handled")
    assert [0, *[0, 0, 0, 0, 1] * 3] == asked[:16]  # every fifth rest ends with another's probe
    assert sorted(handled) == list(range(50))
    assert sorted(handled[2:]) == handled[2:]
    assert (50, 0) == (consumer.tally.handled, consumer.tally.dead)
    assert "count." not in caplog.text
