"""Whatever a handler raises, and whatever goes wrong in judging it, ends no consumer."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_redis_queue import (
    ConfigurationError,
    RedisQueue,
    Reject,
    Retry,
    RetryPolicy,
)
from flask_redis_queue.inspector import DeadLetterRecord
from flask_redis_queue.signals import message_retried

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from .conftest import Clock


class Mute(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Heavy(BaseException):
    """Neither an Exception nor one of Python's own."""


def _in_a_folder_that_is_gone() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
    raise ValueError("the working folder is gone")


def _raise(error: BaseException) -> None:
    raise error


KINDS: dict[str, Callable[[], None]] = {
    "cancelled": lambda: _raise(asyncio.CancelledError()),
    "keyboard": lambda: _raise(KeyboardInterrupt()),
    "generator": lambda: _raise(GeneratorExit()),
    "system": lambda: sys.exit(3),
    "heavy": lambda: _raise(Heavy("x")),
    "group": lambda: _raise(BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError()])),
    "mute": lambda: _raise(Mute()),
    "surrogate": lambda: _raise(FileNotFoundError(2, "none", os.fsdecode(b"caf\xe9"))),
    "folder": _in_a_folder_that_is_gone,
}


def drain(queue: RedisQueue, app: Any, **options: Any) -> Any:
    """:return: What a consumer did until nothing was left."""
    return queue.consumer(app, burst=True, max_seconds=30, **options).run()


def only_dead(app: Any) -> DeadLetterRecord:
    """:return: The dead letter."""
    (found,) = app.extensions["redis_queue"].inspector.dead_letters(QUEUE)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_raised_is_a_failure(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, kind: str, concurrency: int, is_async: bool
) -> None:
    """It is tried again, becomes a dead letter, and its neighbours are handled by who is left."""
    monkeypatch.chdir(Path.cwd())  # back to it afterwards
    app, queue = make_app(redis_url)
    runs: list[int] = []

    def work(supplied: dict[str, Any]) -> None:
        runs.append(supplied["quantity"])
        if supplied["quantity"] == 0:
            KINDS[kind]()

    async def work_async(supplied: dict[str, Any]) -> None:
        work(supplied)

    policy = RetryPolicy(2, min="1ms", max="1ms")
    queue.handler(StockSupplied, retry=policy)(work_async if is_async else work)
    with app.app_context():
        queue.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in (0, 1, 2, 0, 3, 4)])
    consumer = queue.consumer(app, concurrency=concurrency, max_messages=8, max_seconds=30)
    tally = consumer.run()
    assert (4, 2, 2, 0) == (tally.handled, tally.retried, tally.dead, tally.handed_back)
    assert [0] * 4 + [1, 2, 3, 4] == sorted(runs)
    status = app.extensions["redis_queue"].inspector.status(QUEUE)
    assert (0, 0, 0, []) == (status.held, status.waiting, status.missing, status.consumers)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_judging_is_not_interrupted(redis_url: str, clock: Clock, concurrency: int) -> None:
    """A receiver that is slower than what is left of timeout= loses no outcome."""
    app, queue = make_app(redis_url)

    @queue.handler(StockSupplied, retry=RetryPolicy(2, min="1ms", max="1ms"), timeout="1h")
    def handle(supplied: dict[str, Any]) -> None:
        raise ValueError("at once")

    @message_retried.connect_via(app)
    def slow(sender: object, **extra: Any) -> None:
        clock.leap(7200)
        eventually(lambda: clock.looks > 5, "the lease thread sees that the time is over")

    with app.app_context():
        queue.send(StockSupplied, GOODS)
    consumer = queue.consumer(app, concurrency=concurrency, max_messages=2, max_seconds=30)
    tally = consumer.run()
    assert (1, 1) == (tally.retried, tally.dead)
    assert "ValueError: at once" == only_dead(app).meta["why"]


@pytest.mark.parametrize(
    "policy",
    [
        lambda attempt, error: 1.7e308,
        lambda attempt, error: sys.exit(9),
        lambda attempt, error: 1 / 0,
    ],
    ids=["endless", "exits", "raises"],
)
def test_a_policy_costs_no_message(redis_url: str, policy: Any) -> None:
    """A delay that nobody lives to see and a policy that ends itself: the default one is used."""
    app, queue = make_app(redis_url)
    queue.handler(StockSupplied, retry=policy)(lambda supplied: _raise(ValueError("x")))
    with app.app_context():
        queue.send(StockSupplied, GOODS)
    consumer = queue.consumer(app, max_messages=1, max_seconds=30)
    assert 1 == consumer.run().retried
    assert 1 == app.extensions["redis_queue"].inspector.status(QUEUE).delayed


def test_steering_goes_before_pause_and_dead(redis_url: str) -> None:
    """Reject and Retry mean what they say, whatever pause_on= and dead_on= name."""
    app, queue = make_app(redis_url)
    steps = iter([Retry("1ms"), Reject("no")])

    @queue.handler(StockSupplied, pause_on=Exception, dead_on=Exception)
    def handle(supplied: dict[str, Any]) -> None:
        raise next(steps)

    with app.app_context():
        queue.send(StockSupplied, GOODS)
    tally = queue.consumer(app, max_messages=2, max_seconds=30).run()
    assert (1, 1) == (tally.retried, tally.dead)
    assert "rejected" == only_dead(app).meta["cause"]


def test_what_would_never_run_is_refused_or_run(redis_url: str) -> None:
    """A generator is no handler; a plain function that returns a coroutine is waited for."""
    app, queue = make_app(redis_url)

    def lazy(supplied: Any) -> Any:
        yield supplied

    async def lazy_too(supplied: Any) -> Any:
        yield supplied

    for function in (lazy, lazy_too):
        with pytest.raises(ConfigurationError, match="has a yield"):
            queue.handler(StockSupplied)(function)

    ran: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        ran.append("yes")

    @queue.handler(StockSupplied, retry=1)
    def wrapped(supplied: dict[str, Any]) -> Any:
        return work() if supplied["quantity"] else lazy(supplied)

    with app.app_context():
        queue.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in (0, 1)])
    tally = drain(queue, app)
    assert (1, 1, ["yes"]) == (tally.handled, tally.dead, ran)
    assert "returned a generator" in only_dead(app).meta["why"]


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_timeout_tells_where_it_hung(redis_url: str, clock: Clock, is_async: bool) -> None:
    """The dead letter has the line at which the handler was."""
    app, queue = make_app(redis_url)

    def hang(supplied: dict[str, Any]) -> None:
        clock.leap(7200)  # not before it is here: a timeout may be over on the way, too
        while True:
            time.sleep(0.001)

    async def hang_async(supplied: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    handler = hang_async if is_async else hang
    # The clock of a coroutine is the event loop's, which looks at it only once this one waits.
    queue.handler(StockSupplied, retry=1, timeout="50ms" if is_async else "1h")(handler)
    with app.app_context():
        queue.send(StockSupplied, GOODS)
    assert 1 == drain(queue, app).dead
    meta = only_dead(app).meta
    assert meta["frame"].endswith(f"test_failures.py {handler.__name__}")
    assert handler.__name__ in meta["traceback"]


def test_who_began_before_the_trouble_does_not_end_it(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With threads: a neighbour that was running when the queue came to rest is no probe."""
    app, queue = make_app(redis_url)
    running, resting, away = (threading.Event() for _ in range(3))
    away.set()

    @queue.handler(StockSupplied, pause_on=ConnectionError)
    def handle(supplied: dict[str, Any]) -> None:
        if supplied["quantity"] == 0:
            running.set()
            resting.wait(60)
            return
        running.wait(20)  # else it could begin after the trouble, and then it may end it
        if away.is_set():
            raise ConnectionError("away")

    with app.app_context():
        queue.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in (0, 1)])
    consumer = queue.consumer(app, concurrency=2, max_messages=2, max_seconds=60)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    eventually(lambda: "rests: ConnectionError" in caplog.text, "it rests")
    resting.set()
    eventually(lambda: consumer.tally.handled == 1, "the neighbour ends")
    assert "goes on after" not in caplog.text
    away.clear()
    thread.join(60)
    assert (2, 1) == (consumer.tally.handled, caplog.text.count("goes on after"))
