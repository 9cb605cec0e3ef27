"""User code that type checkers must take as it is: every public name, used as it is meant."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, assert_type

import pytest
from flask import Flask
from marshmallow import Schema, fields

from flask_redis_queue import (
    ConfigurationError,
    Consumer,
    InvalidMessage,
    MessageTooLarge,
    QueueFull,
    QueueRefused,
    QueueUnavailable,
    RedisQueue,
    RedisQueueError,
    Reject,
    Retry,
    RetryPolicy,
    SentMessage,
    Tally,
    UnknownMessage,
    consumer_started,
    consumer_stopped,
    current_message,
    message,
    message_dead,
    message_handled,
    message_lost_lease,
    message_received,
    message_retried,
    message_sent,
)
from flask_redis_queue.testing import QueueTester


@message("stock.supplied", queue="inventory_updates")
class StockSupplied(Schema):
    """The contract."""

    product_code = fields.String(required=True)
    quantity = fields.Integer(required=True, strict=True)


@message("order.placed", format="plain")
class OrderPlaced(Schema):
    """Another contract."""

    number = fields.Integer(required=True)


@message("note")
class Note(Schema):
    """The decorator keeps the class."""


class Untyped(Schema):
    """A schema that is no contract."""


assert_type(StockSupplied, type[StockSupplied])

# The extension ---------------------------------------------------------------------------------

app = Flask("shop")


def forms(contracts: ModuleType) -> list[RedisQueue]:
    """Every form of the constructor."""
    return [
        RedisQueue(),
        RedisQueue(app),
        RedisQueue(None),
        RedisQueue(app=app),
        RedisQueue(contracts=contracts),
        RedisQueue(contracts=StockSupplied),
        RedisQueue(contracts=[StockSupplied, contracts]),
        RedisQueue(contracts=(StockSupplied, OrderPlaced)),
        RedisQueue(contracts={StockSupplied, OrderPlaced}),
        RedisQueue(handlers=".handlers"),
        RedisQueue(handlers=[".handlers", "shop.more"]),
        RedisQueue(app, contracts=contracts, handlers=(".handlers",)),
    ]


queue = RedisQueue()
queue.init_app(app)

# Handlers --------------------------------------------------------------------------------------


@queue.handler(StockSupplied)
def typed(supplied: dict[str, Any]) -> None:
    """Handle a message."""


@queue.handler(OrderPlaced)
async def in_async(order: dict[str, Any]) -> None:
    """Handle a message, in async def."""


@queue.handler(Note)
def any_argument_and_result(data: Any) -> int:
    """Handle a message; what is returned is ignored."""
    return 1


@queue.handler("legacy.order", schema=Untyped)
def by_name(order: Mapping[str, object], more: int = 0) -> str:
    """Handle a message of a named type; a parameter with a default is nobody's business."""
    return ""


@queue.handler("stock.supplied", queue="elsewhere")
def by_name_alone(supplied: dict[str, Any]) -> None:
    """Handle a message whose contract is in contracts=."""


@queue.handler(queue="bare", schema=Untyped)
def untyped(data: dict[str, Any]) -> None:
    """Handle untyped messages with a schema."""


@queue.handler(queue="lines")
def untyped_without_schema(data: object) -> None:
    """Handle untyped messages as they are."""


@queue.handler(
    StockSupplied, queue="other", retry=RetryPolicy(), dead_on=(KeyError, ZeroDivisionError)
)
def every_option(*arguments: Any) -> None:
    """Handle a message with each option."""


def backoff(attempt: int, error: BaseException) -> float | None:
    """Say how long to wait."""
    return None if isinstance(error, KeyError) else attempt * 2.0


def backoff_in_words(attempt: int, error: BaseException) -> str:
    """Say how long to wait."""
    return "5m"


class Stock:
    """A handler may be a bound method, or an object that can be called."""

    def add(self, supplied: dict[str, Any]) -> None:
        """Handle a message."""

    def __call__(self, supplied: dict[str, Any]) -> None:
        """Handle a message."""


retries = [
    queue.handler(StockSupplied, retry=RetryPolicy(3, "1s", timedelta(minutes=1), 2.5, False)),
    queue.handler(StockSupplied, retry=RetryPolicy(max_attempts=3, min=1, max=9.5, jitter=True)),
    queue.handler(StockSupplied, retry=backoff),
    queue.handler(StockSupplied, retry=backoff_in_words),
    queue.handler(StockSupplied, retry=lambda attempt, error: timedelta(seconds=attempt)),
    queue.handler(StockSupplied, retry=3),
    queue.handler(StockSupplied, retry=None),
    queue.handler(StockSupplied, dead_on=KeyError),
    queue.handler(StockSupplied, dead_on=()),
]

# The decorator returns the very function, with its type.
plain: Callable[[dict[str, Any]], None] = typed
waited: Callable[[dict[str, Any]], Awaitable[None]] = in_async
assert_type(any_argument_and_result(None), int)
assert_type(by_name({}, more=2), str)
queue.handler(queue="methods")(Stock().add)
assert_type(queue.handler(queue="objects")(Stock()), Stock)
queue.handler(queue="lambdas")(lambda data: None)
queue.handler(queue="builtins")(print)

# Sending ---------------------------------------------------------------------------------------


class Order:
    """An object that a schema dumps."""

    number = 1


def send() -> SentMessage:
    """Every form of send."""
    headers: dict[str, str] = {"tenant": "north"}
    loose: dict[str, Any] = {"tenant": "north"}
    sent = queue.send(StockSupplied, {"product_code": "PROD001", "quantity": 1})
    assert_type(sent, SentMessage)
    assert_type(sent.id, str)
    assert_type(sent.type, str | None)
    assert_type(sent.queue, str)
    assert_type(sent.duplicate, bool | None)
    queue.send("stock.supplied", {"product_code": "PROD001", "quantity": 1})
    queue.send(OrderPlaced, Order())
    queue.send({"product_code": "PROD001"})
    queue.send([1, "two", None], queue="lines")
    queue.send("only a text", queue="lines")
    queue.send(Order(), queue="orders")
    queue.send({}, delay=1, expires="1h", headers=headers, id="1", dedup="k", dedup_window=60)
    queue.send(StockSupplied, {}, delay=1.5, expires=timedelta(hours=1), headers=loose)
    queue.send(StockSupplied, {}, delay="250ms", expires=60, queue="other", id="7")
    queue.send(StockSupplied, {}, delay=timedelta(1), dedup="key", dedup_window="1h")
    queue.send(StockSupplied, {}, headers={"tenant": "north", "tries": 3, "test": True})
    queue.send(StockSupplied, {}, headers=current_message.headers)
    return queue.send(
        *(StockSupplied, {}),
        queue=None,
        delay=None,
        expires=None,
        headers=None,
        id=None,
        dedup=None,
        dedup_window=None,
    )


def send_many() -> None:
    """Every form of send_many."""
    payloads: Iterator[dict[str, int]] = ({"quantity": n} for n in range(3))
    assert_type(queue.send_many(StockSupplied, payloads), list[SentMessage])
    queue.send_many("stock.supplied", [{}, Order()], queue="other")
    queue.send_many(StockSupplied, (), delay="1s", expires=60, headers={"tenant": "north"})


# Inside a handler ------------------------------------------------------------------------------


def look() -> None:
    """Every attribute of current_message."""
    assert_type(current_message.id, str)
    assert_type(current_message.type, str | None)
    assert_type(current_message.queue, str)
    assert_type(current_message.attempt, int)
    assert_type(current_message.headers, Mapping[str, Any])
    assert_type(current_message.time, datetime | None)
    assert_type(current_message.expires, datetime | None)
    assert_type(current_message.source, str)
    assert_type(current_message.raw, bytes)
    assert_type(current_message.logger, logging.LoggerAdapter[logging.Logger])
    current_message.logger.info("%d more", 5)


def steer(how: int) -> None:
    """Every form of Retry and Reject."""
    if how == 1:
        raise Retry
    if how == 2:
        raise Retry("5m")
    if how == 3:
        raise Retry(delay=timedelta(minutes=5))
    if how == 4:
        raise Reject
    raise Reject("no such warehouse")


# Errors ----------------------------------------------------------------------------------------


def errors() -> None:
    """Every error, with what it carries."""
    try:
        send()
    except InvalidMessage as error:
        assert_type(error.error_code, str)
        invalid: Any = error.messages
        print(invalid)
    except QueueRefused as error:
        stored: str = error.stored
        print(stored)
    except QueueUnavailable as error:
        assert_type(error.id, str | None)
        assert_type(error.sent, list[Any])
        if error.stored == "no":
            print("nothing was stored")
    except QueueFull as error:
        assert_type(error.sent, list[Any])
    except (MessageTooLarge, UnknownMessage, ConfigurationError) as error:
        assert_type(error.error_code, str)
    except RedisQueueError as error:
        assert_type(error.error_code, str)
    refused: list[type[RedisQueueError]] = [InvalidMessage, QueueRefused, ConfigurationError]
    print(refused)


def policies() -> None:
    """A policy is what REDIS_QUEUE_RETRY holds, and may be asked."""
    app.config["REDIS_QUEUE_RETRY"] = RetryPolicy(max_attempts=5, factor=2)
    assert_type(RetryPolicy()(1, ValueError()), float | None)
    assert_type(RetryPolicy().max_attempts, int)


# A consumer in a program -----------------------------------------------------------------------


def consume() -> int:
    """Every option of a consumer."""
    consumer = queue.consumer(app)
    assert_type(consumer, Consumer)
    tally = consumer.run()
    assert_type(tally, Tally)
    assert_type(tally.handled, int)
    assert_type(tally.total, int)
    consumer.stop()
    queue.consumer(app, queues=["a", "b"], name="one", burst=True).run()
    queue.consumer(app, queues=("a",), max_messages=1, max_seconds="5m", stop_timeout=3).run()
    queue.consumer(app, max_seconds=timedelta(hours=1), stop_timeout=None).run()
    return tally.handled + tally.retried + tally.dead + tally.expired + tally.handed_back


# Signals ---------------------------------------------------------------------------------------


@message_sent.connect
@message_received.connect
@message_handled.connect_via(app)
def on_message(sender: Flask, **extra: Any) -> None:
    """Receive a signal."""


for signal in (message_retried, message_dead, message_lost_lease):
    signal.connect(on_message, sender=app)
for signal in (consumer_started, consumer_stopped):
    signal.connect(on_message)

# Tests -----------------------------------------------------------------------------------------


def test_with_the_fixture(redis_queue: QueueTester, real_redis_queue: QueueTester) -> None:
    """Every method of the fixtures."""
    assert_type(redis_queue.send(StockSupplied, {}), SentMessage)
    redis_queue.send("stock.supplied", {}, delay="1m", headers={"tenant": "north"})
    redis_queue.send({"bare": True}, queue="bare")
    redis_queue.perform(StockSupplied, {}, queue="other", headers={"a": "b"}, attempt=2)
    redis_queue.perform({"bare": True})
    assert_type(redis_queue.assert_sent(StockSupplied, quantity=1).id, str)
    redis_queue.assert_sent("stock.supplied")
    redis_queue.assert_not_sent()
    redis_queue.assert_not_sent(OrderPlaced, number=1)
    assert_type(redis_queue.drain(), Tally)
    redis_queue.drain("a", "b", allow_dead=True, limit=10)
    redis_queue.fail_next(KeyError)
    redis_queue.fail_next(KeyError("x"), times=2)
    redis_queue.travel("10m")
    redis_queue.travel(timedelta(hours=1))
    assert_type(redis_queue.app, Flask)
    for dead in redis_queue.dead:
        print(dead)
    for one in redis_queue.sent:
        assert_type(one.type, str | None)
    with redis_queue.message(type="t", headers={"a": "b"}, attempt=2) as current:
        assert_type(current.attempt, int)
    with pytest.raises(InvalidMessage):
        real_redis_queue.send(StockSupplied, {})
