"""Handlers that hang, surroundings that are away, and several threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import Any

import pytest
from marshmallow import Schema

from flask_redis_queue import current_message, guard, message, pausing

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from .conftest import Clock
from .test_queue import drain, status

NUMBERED = [{**GOODS, "quantity": number} for number in range(1, 201)]


@message("hang", queue=QUEUE)
class Hang(Schema):
    """What its handler never ends with."""


@pytest.fixture(autouse=True)
def _times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rests are short, and a machine that stands still is no handler that cannot be ended."""
    monkeypatch.setattr(pausing, "_FIRST", 0.05)
    monkeypatch.setattr(guard, "GRACE", 60.0)


@pytest.mark.parametrize("concurrency", [2, 8])
def test_threads_handle_each_message_once(redis_url: str, concurrency: int) -> None:
    """Several threads share what one subscription holds; each runs in its own context."""
    app, queue = make_app(redis_url)
    got: Counter[int] = Counter()
    threads: set[str] = set()
    lock = threading.Lock()
    all_in = threading.Barrier(concurrency, timeout=20)

    @queue.handler(StockSupplied)
    def handle(supplied: dict[str, Any]) -> None:
        with lock:
            got[supplied["quantity"]] += 1
            is_new = threading.current_thread().name not in threads
            threads.add(threading.current_thread().name)
        if is_new:  # else a thread that comes late would find nothing left
            all_in.wait()

    with app.app_context():
        queue.send_many(StockSupplied, NUMBERED)
    assert 200 == drain(queue, app, concurrency=concurrency).handled
    assert dict.fromkeys(range(1, 201), 1) == dict(got)
    assert concurrency == len(threads)
    assert (0, 0) == (status(app).missing, status(app).held)


def test_threads_run_side_by_side(redis_url: str) -> None:
    """Four handlers wait for one another: with fewer threads none would ever end."""
    app, queue = make_app(redis_url)
    barrier = threading.Barrier(4, timeout=20)
    queue.handler(StockSupplied)(lambda supplied: barrier.wait())
    with app.app_context():
        queue.send_many(StockSupplied, [GOODS] * 4)
    assert 4 == drain(queue, app, concurrency=4).handled


def test_threads_stop_at_the_limit(redis_url: str) -> None:
    """--max-messages counts what runs, so that no thread starts one too many."""
    app, queue = make_app(redis_url)
    queue.handler(StockSupplied)(lambda supplied: None)
    with app.app_context():
        queue.send_many(StockSupplied, NUMBERED)
    assert 50 == queue.consumer(app, concurrency=4, max_messages=50).run().handled
    assert (150, 0) == (status(app).waiting, status(app).missing)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_hung_handler_is_ended(redis_url: str, clock: Clock, concurrency: int) -> None:
    """After its timeout= it fails with TimeoutError, which counts one attempt; others go on."""
    app, queue = make_app(redis_url)
    attempts: list[int] = []
    got: list[int] = []

    @queue.handler(Hang, timeout="1h", retry=1)
    def hang(data: Any) -> None:
        attempts.append(current_message.attempt)
        clock.leap(7200)
        while True:
            time.sleep(0.001)

    # Without a timeout: what hangs beside it makes time leap.
    queue.handler(StockSupplied)(lambda supplied: got.append(supplied["quantity"]))
    with app.app_context():
        queue.send(Hang, {})
        queue.send_many(StockSupplied, NUMBERED[1:20])
    tally = drain(queue, app, concurrency=concurrency)
    assert (1, 19, [1]) == (tally.dead, tally.handled, attempts)
    (dead,) = app.extensions["redis_queue"].inspector.dead_letters(QUEUE)
    assert "TimeoutError: the handler ran longer than its timeout of 1h" == dead.meta["why"]
    assert list(range(2, 21)) == sorted(got)


def test_a_hung_coroutine_is_cancelled(redis_url: str) -> None:
    """An async handler that waits is cancelled, and its finally blocks run."""
    app, queue = make_app(redis_url)
    ended: list[str] = []

    @queue.handler(StockSupplied, timeout="50ms", retry=1)
    async def handle(supplied: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cleaned up")

    with app.app_context():
        queue.send_many(StockSupplied, [GOODS] * 2)
    assert 2 == drain(queue, app).dead
    assert ["cleaned up"] * 2 == ended


@pytest.mark.parametrize("is_async", [False, True])
def test_a_hang_is_no_trouble_of_the_surroundings(
    redis_url: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """TimeoutError is an OSError, and pause_on= may name that: a hang counts all the same."""
    app, queue = make_app(redis_url)
    away = threading.Event()
    away.set()

    async def wait(data: Any) -> None:
        await asyncio.sleep(60)

    def sleep(data: Any) -> None:
        while True:
            time.sleep(0.001)

    # So long that it is never over before the handler's own error.
    @queue.handler(StockSupplied, timeout="1m", retry=1, pause_on=OSError)
    def handle(supplied: dict[str, Any]) -> None:
        if away.is_set():
            raise TimeoutError("the database says so")

    hangs = queue.handler(Hang, timeout="50ms", retry=1, pause_on=OSError)
    hangs(wait if is_async else sleep)
    with app.app_context():
        queue.send(StockSupplied, GOODS)
        queue.send(Hang, {})
    consumer = queue.consumer(app, max_messages=2, max_seconds=60)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    eventually(lambda: "rests: TimeoutError: the database" in caplog.text, "its own error rests")
    away.clear()
    thread.join(60)
    assert (1, 1) == (consumer.tally.handled, consumer.tally.dead)
    (dead,) = app.extensions["redis_queue"].inspector.dead_letters(QUEUE)
    assert "TimeoutError: the handler ran longer than its timeout of 50ms" == dead.meta["why"]


def test_a_quick_handler_is_never_interrupted(redis_url: str) -> None:
    """Ends near the timeout: whatever the clock says, each message has one outcome."""
    app, queue = make_app(redis_url)
    runs: Counter[int] = Counter()
    lock = threading.Lock()

    @queue.handler(StockSupplied, timeout="10ms", retry=1)
    def handle(supplied: dict[str, Any]) -> None:
        time.sleep(0.0095 + supplied["quantity"] % 10 * 0.0001)
        with lock:
            runs[supplied["quantity"]] += 1

    with app.app_context():
        queue.send_many(StockSupplied, NUMBERED)
    tally = drain(queue, app, concurrency=4)
    assert 200 == tally.handled + tally.dead
    assert tally.handled <= runs.total() <= 200
    assert (0, 0) == (status(app).missing, status(app).held)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_database_that_is_away_costs_no_attempt(redis_url: str, concurrency: int) -> None:
    """pause_on=: the queue rests and probes; afterwards all is handled at its first attempt."""
    app, queue = make_app(redis_url)
    away = threading.Event()
    away.set()
    tries: list[int] = []
    attempts: Counter[int] = Counter()

    @queue.handler(StockSupplied, pause_on=ConnectionError, retry=2)
    def handle(supplied: dict[str, Any]) -> None:
        if away.is_set():
            tries.append(supplied["quantity"])
            raise ConnectionError("the database is away")
        attempts[current_message.attempt] += 1

    with app.app_context():
        queue.send_many(StockSupplied, NUMBERED)
    consumer = queue.consumer(app, concurrency=concurrency, max_messages=200, max_seconds=60)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    eventually(lambda: len(tries) >= 2 + concurrency, "it has probed")
    assert (0, 0) == (status(app).dead, status(app).delayed)
    away.clear()
    thread.join(60)
    assert {1: 200} == dict(attempts)
    assert (0, 0, 0) == (status(app).waiting, status(app).dead, status(app).missing)
    assert len(tries) < 30


def test_a_resting_queue_does_not_hold_others(redis_url: str) -> None:
    """While one queue rests, the consumer goes on with the next."""
    app, queue = make_app(redis_url)
    got: list[Any] = []

    @queue.handler(queue="broken", pause_on=OSError)
    def rest(data: Any) -> None:
        raise OSError("away")

    queue.handler(queue="fine")(got.append)
    with app.app_context():
        queue.send({"n": 0}, queue="broken")
        for number in range(20):
            queue.send({"n": number}, queue="fine")
    consumer = queue.consumer(app, queues=["broken", "fine"], max_seconds=60)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    eventually(lambda: len(got) == 20, "the other queue is handled")
    consumer.stop()
    thread.join(20)
    inspector = app.extensions["redis_queue"].inspector
    assert (1, 0) == (inspector.status("broken").waiting, inspector.status("broken").dead)
