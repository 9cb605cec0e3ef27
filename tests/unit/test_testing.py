"""The fixtures that users test with, on fakeredis: no server, no thread, no waiting."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, current_app, g
from marshmallow import Schema, ValidationError, fields, validate

from flask_redis_queue import (
    InvalidMessage,
    RedisQueue,
    Reject,
    Retry,
    RetryPolicy,
    UnknownMessage,
    current_message,
    message,
)
from flask_redis_queue.testing import QueueTester


@message("order.placed", queue="orders")
class OrderPlaced(Schema):
    """A contract."""

    number = fields.Integer(required=True, strict=True)
    price = fields.Decimal()
    at = fields.DateTime()


@message("order.shipped", queue="orders")
class OrderShipped(Schema):
    """What the handler of the other one sends."""

    number = fields.Integer(required=True, strict=True)


queue = RedisQueue(contracts=[OrderPlaced, OrderShipped])


@pytest.fixture
def calls() -> list[Any]:
    """What handlers have noted."""
    return []


@pytest.fixture
def app(calls: list[Any]) -> Flask:
    """An app whose handlers note their calls; made anew, so that tests may add handlers."""
    app = Flask("tests.shop")
    queue = RedisQueue(app, contracts=[OrderPlaced, OrderShipped])
    app.extensions["shop_queue"] = queue

    # So long that nothing is due by itself, however slow the machine.
    @queue.handler(OrderPlaced, retry=RetryPolicy(3, min="1m", max="5m"))
    def place(order: dict[str, Any]) -> None:
        calls.append((order["number"], current_message.attempt))
        if order["number"] == 13:
            raise KeyError("thirteen")
        if order["number"] == 14:
            raise Reject("no fourteen here")
        if order["number"] < 3:
            queue.send(OrderShipped, order)

    @queue.handler(OrderShipped)
    def ship(order: dict[str, Any]) -> None:
        calls.append(("shipped", order["number"]))

    @app.post("/orders/<int:number>")
    def create(number: int) -> dict[str, Any]:
        return {"id": queue.send(OrderPlaced, {"number": number}).id}

    return app


def test_what_a_view_sends_is_seen(app: Flask, client: Any, redis_queue: QueueTester) -> None:
    """``sent`` and ``assert_sent`` know what a view has sent."""
    client.post("/orders/5")
    found = redis_queue.assert_sent(OrderPlaced, number=5)
    assert (["order.placed"], "orders") == ([one.type for one in redis_queue.sent], found.queue)
    redis_queue.assert_sent("order.placed")
    redis_queue.assert_not_sent(OrderShipped)
    redis_queue.assert_not_sent(OrderPlaced, number=6)
    with pytest.raises(AssertionError, match=r"order.placed was sent: \{'number': 5\}"):
        redis_queue.assert_not_sent()


def test_a_failure_shows_the_nearest_message(redis_queue: QueueTester) -> None:
    """Of several, the one with the fewest differences, as a diff."""
    with pytest.raises(AssertionError, match=r"No order.placed was sent. Nothing was sent."):
        redis_queue.assert_sent(OrderPlaced)
    redis_queue.send(OrderPlaced, {"number": 5, "price": "2.50"})
    redis_queue.send(OrderPlaced, {"number": 6, "price": "2.50"})
    with pytest.raises(AssertionError) as failure:
        redis_queue.assert_sent(OrderPlaced, number=6, price="3")
    assert [
        "No order.placed with these fields was sent. The nearest of 2 (- wanted, + sent):",
        "  {",
        '    "number": 6,',
        '-   "price": "3"',
        '+   "price": "2.50"',
        "  }",
    ] == str(failure.value).splitlines()
    with pytest.raises(AssertionError, match=r"Sent: order.placed \(2\)."):
        redis_queue.assert_sent(OrderShipped)


def test_fields_match_as_sent_and_as_loaded(redis_queue: QueueTester) -> None:
    """A Decimal is text on the wire, and a Decimal for who asks so."""
    price = fields.Decimal().deserialize("2.50")
    redis_queue.send(OrderPlaced, {"number": 5, "price": price})
    redis_queue.assert_sent(OrderPlaced, price="2.50")
    redis_queue.assert_sent(OrderPlaced, price=price)


def test_drain_handles_follow_up_messages(redis_queue: QueueTester, calls: list[Any]) -> None:
    """What a handler sends is handled in the same drain."""
    redis_queue.send(OrderPlaced, {"number": 1})
    redis_queue.send(OrderPlaced, {"number": 9})
    assert 3 == redis_queue.drain().handled
    assert [(1, 1), (9, 1), ("shipped", 1)] == calls
    assert 0 == redis_queue.drain().handled


def test_drain_raises_the_first_failure(redis_queue: QueueTester, calls: list[Any]) -> None:
    """The handler's own exception, with a note; the message waits for its retry."""
    redis_queue.send(OrderPlaced, {"number": 13})
    with pytest.raises(KeyError, match="thirteen") as failure:
        redis_queue.drain()
    assert ["While handling order.placed on orders, attempt 1."] == failure.value.__notes__
    assert 0 == redis_queue.drain().total
    for attempt in (2, 3):
        redis_queue.travel("10m")
        with pytest.raises(KeyError):
            redis_queue.drain()
        assert (13, attempt) == calls[-1]
    (dead,) = redis_queue.dead
    assert ("failed", "KeyError: 'thirteen'") == (dead.meta["cause"], dead.meta["why"])


def test_drain_can_let_messages_die(redis_queue: QueueTester, calls: list[Any]) -> None:
    """With allow_dead it goes on, and the dead letters tell."""
    redis_queue.send(OrderPlaced, {"number": 14})
    redis_queue.send(OrderPlaced, {"number": 9})
    done = redis_queue.drain(allow_dead=True)
    assert (1, 1) == (done.dead, done.handled)
    assert ["no fourteen here"] == [one.meta["why"] for one in redis_queue.dead]


def test_an_unknown_type_fails_the_drain(redis_queue: QueueTester, app: Flask) -> None:
    """A dead letter that no exception made is an AssertionError with its reason."""
    other = Flask("other")
    sender = RedisQueue(other)

    @message("order.lost", queue="orders")
    class OrderLost(Schema):
        pass

    with QueueTester(other, redis_queue._state.make_pool), other.app_context():
        sender.send(OrderLost, {})
    with pytest.raises(AssertionError, match=r'dead letter\. No handler for "order.lost"'):
        redis_queue.drain()


def test_drain_refuses_an_endless_loop(app: Flask, redis_queue: QueueTester) -> None:
    """A handler that sends to its own queue would never end."""
    queue: RedisQueue = app.extensions["shop_queue"]

    @queue.handler(queue="loop")
    def again(data: Any) -> None:
        queue.send(data, queue="loop")

    redis_queue.send({"n": 1}, queue="loop")
    with pytest.raises(AssertionError, match=r"drain\(\) has handled 50 messages"):
        redis_queue.drain(limit=50)


def test_perform_runs_one_handler(redis_queue: QueueTester, calls: list[Any]) -> None:
    """The whole path for one message; nothing enters the queue, exceptions come unwrapped."""
    redis_queue.perform(OrderShipped, {"number": 4})
    redis_queue.perform("order.placed", {"number": 9}, attempt=2)
    assert [("shipped", 4), (9, 2)] == calls
    assert ([], 0) == (redis_queue.sent, redis_queue.drain().total)
    with pytest.raises(KeyError, match="thirteen"):
        redis_queue.perform(OrderPlaced, {"number": 13})
    with pytest.raises(Reject, match="no fourteen"):
        redis_queue.perform(OrderPlaced, {"number": 14})
    with pytest.raises(InvalidMessage, match=r"number: Not a valid integer"):
        redis_queue.perform(OrderPlaced, {"number": 5.7})
    with pytest.raises(UnknownMessage, match=r"order\.plced"):
        redis_queue.perform("order.plced", {})


def test_perform_says_what_the_handlers_own_schema_refuses(
    app: Flask, redis_queue: QueueTester
) -> None:
    """The ValidationError of the receiving side is raised as it is."""
    queue: RedisQueue = app.extensions["shop_queue"]

    class Narrow(Schema):
        number = fields.Integer(validate=validate.Range(max=2))

    queue.handler(queue="narrow", schema=Narrow)(lambda order: None)
    redis_queue.send({"number": 7}, queue="narrow")
    with pytest.raises(ValidationError):
        redis_queue.drain("narrow")


def test_fail_next_is_retried_and_not_raised(redis_queue: QueueTester, calls: list[Any]) -> None:
    """A planned failure takes the message's way: a retry after its delay."""
    redis_queue.send(OrderPlaced, {"number": 9})
    redis_queue.fail_next(ConnectionError("the warehouse is away"))
    done = redis_queue.drain()
    assert (0, 1, []) == (done.handled, done.retried, calls)
    redis_queue.travel("1m")
    assert 1 == redis_queue.drain().handled
    assert [(9, 2)] == calls


def test_fail_next_until_it_is_dead(redis_queue: QueueTester, calls: list[Any]) -> None:
    """The real retry policy counts planned failures, too."""
    redis_queue.send(OrderPlaced, {"number": 9})
    redis_queue.fail_next(Retry, times=3)
    for _ in range(3):
        redis_queue.drain()
        redis_queue.travel("10m")
    assert ["failed"] == [one.meta["cause"] for one in redis_queue.dead]
    assert [] == calls


def test_travel_moves_delays_expiry_and_dedup(redis_queue: QueueTester, calls: list[Any]) -> None:
    """Everything that waits for time."""
    redis_queue.send(OrderPlaced, {"number": 9}, delay="10m")
    redis_queue.send(OrderShipped, {"number": 1}, expires="1m")
    redis_queue.travel("59s")
    redis_queue.send(OrderShipped, {"number": 2}, expires="1m")
    redis_queue.travel("2s")
    done = redis_queue.drain()
    assert (1, 1, [("shipped", 2)]) == (done.expired, done.handled, calls)
    redis_queue.travel("9m")
    assert (1, (9, 1)) == (redis_queue.drain().handled, calls[-1])
    first = redis_queue.send(OrderShipped, {"number": 3}, dedup="three", dedup_window="1h")
    again = redis_queue.send(OrderShipped, {"number": 3}, dedup="three", dedup_window="1h")
    assert (True, first.id) == (again.duplicate, again.id)
    redis_queue.travel("1h")
    assert not redis_queue.send(OrderShipped, {"number": 3}, dedup="three").duplicate


def test_message_opens_current_message(redis_queue: QueueTester) -> None:
    """For calling a handler, or what it calls, directly."""
    with redis_queue.message(type="order.placed", attempt=3, headers={"tenant": "x"}) as current:
        assert ("order.placed", 3, "x") == (
            current_message.type,
            current.attempt,
            current_message.headers["tenant"],
        )
    with pytest.raises(RuntimeError, match="No message is being handled"):
        current_message.id  # noqa: B018


def test_no_second_app_context_inside_a_request(app: Flask, redis_queue: QueueTester) -> None:
    """The handler sees the `g` of the test's request, and so its database session."""
    queue: RedisQueue = app.extensions["shop_queue"]
    queue.handler(queue="notes")(lambda data: g.notes.append(current_app.name))
    g.notes = []
    redis_queue.send({"n": 1}, queue="notes")
    redis_queue.drain("notes")
    assert ["tests.shop"] == g.notes


def test_the_app_is_as_it_was_afterwards(app: Flask) -> None:
    """The fixture puts its state in the place of the app's, and takes it away again."""
    before = app.extensions["redis_queue"]
    with QueueTester(app, before.make_pool):
        assert before is not app.extensions["redis_queue"]
    assert before is app.extensions["redis_queue"]
