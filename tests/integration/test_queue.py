"""One app, one real server: what is sent is handled, and the ledger balances."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import redis
from flask import Flask, current_app

from flask_redis_queue import (
    RedisQueue,
    Reject,
    Retry,
    RetryPolicy,
    current_message,
    message_dead,
    message_retried,
)

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually

MISSPELT = b'{"specversion":"1.0","id":"1","source":"s","type":"stock.suplied"}'


def status(app: Flask) -> Any:
    """:return: The queue at this moment."""
    return app.extensions["redis_queue"].inspector.status(QUEUE)


def drain(queue: RedisQueue, app: Flask, **options: Any) -> Any:
    """:return: What a burst consumer did."""
    return queue.consumer(app, burst=True, **options).run()


def keys(url: str) -> set[str]:
    """:return: What is left in Redis, but what ends by itself."""
    client = redis.Redis.from_url(url, decode_responses=True)
    return {key for key in client.keys("*") if client.ttl(key) == -1}


def test_sent_is_handled_once(redis_url: str) -> None:
    """A message reaches its handler in an app context, and leaves nothing but the ledger."""
    app, queue = make_app(redis_url)
    got = []

    @queue.handler(StockSupplied)
    def handle(supplied: dict[str, Any]) -> None:
        got.append((current_app.name, current_message.attempt, current_message.id, supplied))

    with app.app_context():
        sent = queue.send(StockSupplied, GOODS, headers={"tenant": "x"})
    assert 1 == drain(queue, app).handled
    assert [("tests.app", 1, sent.id, GOODS)] == got
    assert (0, 1, 1) == (status(app).missing, status(app).ledger["sent"], len(got))
    assert {f"{{{QUEUE}}}:ledger"} == keys(redis_url)


def test_async_handler_sees_the_message(redis_url: str) -> None:
    """An async def handler runs in the same context."""
    app, queue = make_app(redis_url)
    got = []

    @queue.handler(StockSupplied)
    async def handle(supplied: dict[str, Any]) -> None:
        got.append((current_message.type, current_app.name))

    with app.app_context():
        queue.send_many("stock.supplied", [GOODS] * 3)
    assert 3 == drain(queue, app).handled
    assert [("stock.supplied", "tests.app")] * 3 == got


def test_old_and_new_share_a_queue(redis_url: str) -> None:
    """An LPUSH is handled, a BRPOP reads what plain wrote, and the ledger balances with both."""
    app, queue = make_app(redis_url, REDIS_QUEUE_FORMAT="plain")
    got = []
    queue.handler(StockSupplied)(got.append)
    client = redis.Redis.from_url(redis_url)
    client.lpush(QUEUE, json.dumps(GOODS))
    with app.app_context():
        queue.send(StockSupplied, GOODS)
        queue.send(StockSupplied, GOODS)
    popped = client.brpop([QUEUE], timeout=5)
    assert popped is not None
    assert GOODS == json.loads(popped[1])
    assert 2 == drain(queue, app).handled
    assert [GOODS, GOODS] == got
    assert 0 == status(app).missing
    ledger = status(app).ledger
    assert 2 == ledger["sent"]
    assert 0 == ledger.get("foreign_in", 0) - ledger.get("foreign_out", 0)


def test_invariant_7_foreign_traffic_is_folded_in(redis_url: str) -> None:
    """What another program pushed is counted by the turn that takes it."""
    app, queue = make_app(redis_url)
    queue.handler(StockSupplied)(lambda supplied: None)
    redis.Redis.from_url(redis_url).lpush(QUEUE, json.dumps(GOODS), json.dumps(GOODS))
    assert 2 == drain(queue, app).handled
    assert (2, 0) == (status(app).ledger["foreign_in"], status(app).missing)


def test_failures_are_retried_then_dead(redis_url: str) -> None:
    """A handler that fails gets its attempts, then the message is a dead letter with a cause."""
    app, queue = make_app(redis_url)
    attempts, told = [], []

    @queue.handler(StockSupplied, retry=RetryPolicy(3, "1ms", "1ms"))
    def handle(supplied: dict[str, Any]) -> None:
        attempts.append(current_message.attempt)
        raise KeyError("address")

    def retried(sender: Flask, **extra: Any) -> None:
        told.append(("retried", sender is app, extra["delay"] > 0))

    def died(sender: Flask, **extra: Any) -> None:
        told.append(("dead", sender is app, repr(extra["error"])))
        raise RuntimeError("a receiver's error changes nothing")

    with message_retried.connected_to(retried), message_dead.connected_to(died), app.app_context():
        queue.send(StockSupplied, GOODS)
        tally = queue.consumer(app, max_messages=3, max_seconds=20).run()
    assert ([1, 2, 3], 2, 1) == (attempts, tally.retried, tally.dead)
    assert [("retried", True, True)] * 2 + [("dead", True, "KeyError('address')")] == told
    (dead,) = app.extensions["redis_queue"].inspector.dead_letters(QUEUE)
    assert ("failed", "KeyError: 'address'") == (dead.meta["cause"], dead.meta["why"])
    assert "raise KeyError" in dead.meta["traceback"]


def test_steering_from_inside(redis_url: str) -> None:
    """Retry comes back after its delay and counts; Reject is a dead letter at once."""
    app, queue = make_app(redis_url)
    seen = []

    @queue.handler(StockSupplied)
    def handle(supplied: dict[str, Any]) -> None:
        seen.append(current_message.attempt)
        if len(seen) == 1:
            raise Retry("1ms")
        raise Reject("not ours")

    with app.app_context():
        queue.send(StockSupplied, GOODS)
    queue.consumer(app, max_messages=2, max_seconds=20).run()
    (dead,) = app.extensions["redis_queue"].inspector.dead_letters(QUEUE)
    assert ([1, 2], "rejected", "not ours") == (seen, dead.meta["cause"], dead.meta["why"])


@pytest.mark.parametrize(
    ("raw", "cause", "said"),
    [
        (b"\xff{", "malformed", "not UTF-8"),
        (b'{"quantity": ', "malformed", "not JSON"),
        (b'{"product_code": "x"}', "invalid", "Missing data"),
        (MISSPELT, "unknown type", "Did you mean"),
        (b'{"x": "' + b"y" * 2 * 1024 * 1024 + b'"}', "too large", "REDIS_QUEUE_MAX_BYTES"),
    ],
)  # fmt: skip
def test_bad_bytes_are_kept(redis_url: str, raw: bytes, cause: str, said: str) -> None:
    """Each is kept with its exact bytes; the consumer goes on; replay brings it back."""
    app, queue = make_app(redis_url)
    got: list[Any] = []
    queue.handler(StockSupplied)(got.append)
    redis.Redis.from_url(redis_url).lpush(QUEUE, raw)
    with app.app_context():
        queue.send(StockSupplied, GOODS)
    drain(queue, app)
    inspector = app.extensions["redis_queue"].inspector
    (dead,) = inspector.dead_letters(QUEUE)
    assert (raw, cause) == (dead.delivery.raw, dead.meta["cause"])
    assert said in dead.meta["why"]
    assert [GOODS] == got
    assert 1 == inspector.replay(QUEUE, [dead.key])
    assert (1, 0, 0) == (status(app).waiting, status(app).dead, status(app).missing)


def test_order_is_kept(redis_url: str) -> None:
    """One consumer thread handles in the order of sending."""
    app, queue = make_app(redis_url)
    got: list[int] = []
    queue.handler(StockSupplied)(lambda supplied: got.append(supplied["quantity"]))
    with app.app_context():
        queue.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in range(1000)])
    drain(queue, app)
    assert list(range(1000)) == got


def test_queues_are_read_in_the_order_given(redis_url: str) -> None:
    """The first queue goes first; waiting for several wakes on any of them."""
    app, queue = make_app(redis_url)
    got: list[str] = []
    for name in ("low", "high"):
        queue.handler(queue=name)(lambda data: got.append(current_message.queue))
    # Two lambdas have one qualname: they replace per queue only.
    with app.app_context():
        for name in ("low", "high", "low", "high"):
            queue.send({"n": 1}, queue=name)
    consumer = queue.consumer(app, queues=["high", "low"], max_messages=5, max_seconds=20)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    with app.app_context():
        eventually(lambda: len(got) == 4, "the first four")
        queue.send({"n": 1}, queue="low")
    thread.join(20)
    assert ["high", "high", "low", "low", "low"] == got


def test_paused_queue_is_left_alone(redis_url: str) -> None:
    """While the pause key stands nothing is taken; afterwards it goes on."""
    app, queue = make_app(redis_url)
    got: list[Any] = []
    queue.handler(StockSupplied)(got.append)
    client = redis.Redis.from_url(redis_url)
    client.set(f"{{{QUEUE}}}:paused", "stocktaking")
    with app.app_context():
        queue.send(StockSupplied, GOODS)
    drain(queue, app)
    assert ([], "stocktaking") == (got, status(app).paused)
    client.delete(f"{{{QUEUE}}}:paused")
    drain(queue, app)
    assert [GOODS] == got


def test_script_flush_is_survived(redis_url: str) -> None:
    """Scripts that the server forgot are sent again."""
    app, queue = make_app(redis_url)
    got: list[Any] = []
    queue.handler(StockSupplied)(got.append)
    client = redis.Redis.from_url(redis_url)
    with app.app_context():
        for _ in range(3):
            client.script_flush()
            queue.send(StockSupplied, GOODS)
    assert 3 == drain(queue, app).handled


def test_a_message_that_is_too_large_is_told_and_stays_out(redis_url: str) -> None:
    """It counts as dead, makes the signal, and a replay brings it no further."""
    app, queue = make_app(redis_url, REDIS_QUEUE_MAX_BYTES=2000)
    queue.handler(StockSupplied)(lambda supplied: None)
    redis.Redis.from_url(redis_url).lpush(QUEUE, b'"' + b"x" * 3000 + b'"')
    told: list[tuple[str, str]] = []

    def receive(sender: Flask, message: Any, cause: str, **extra: Any) -> None:
        told.append((message.id, cause))

    with message_dead.connected_to(receive, sender=app):
        assert 1 == drain(queue, app).dead
        inspector = app.extensions["redis_queue"].inspector
        (first,) = inspector.dead_letters(QUEUE)
        assert [(first.id, "too large")] == told
        assert 1 == inspector.replay(QUEUE, [first.key])
        assert 1 == drain(queue, app).dead
    (second,) = inspector.dead_letters(QUEUE)
    assert (first.delivery.raw, first.delivery.birth) == (
        second.delivery.raw,
        second.delivery.birth,
    )
    assert (2, 0) == (len(told), status(app).missing)
