"""User code that type checkers must refuse: each line that ends with a mark, and no other."""

from __future__ import annotations

from typing import Any

from flask import Flask
from marshmallow import Schema, fields

import flask_redis_queue
from flask_redis_queue import RedisQueue, Reject, Retry, RetryPolicy, current_message, message
from flask_redis_queue.testing import QueueTester


@message("stock.supplied")
class StockSupplied(Schema):
    """The contract."""

    quantity = fields.Integer(required=True)


app = Flask("shop")
queue = RedisQueue()
NAMES = {"tenant": "north"}

# Handlers --------------------------------------------------------------------------------------


def none() -> None:
    """Takes no message."""


def two(supplied: dict[str, Any], more: int) -> None:
    """Takes more than a message."""


def named(*, supplied: dict[str, Any]) -> None:
    """Takes its message by name."""


async def none_async() -> None:
    """Takes no message, in async def."""


async def two_async(supplied: dict[str, Any], more: int) -> None:
    """Takes more than a message, in async def."""


class Empty:
    """Cannot be called."""


queue.handler(StockSupplied)(none)  # E: handler-arity
queue.handler(StockSupplied)(two)  # E: handler-arity
queue.handler(StockSupplied)(named)  # E: handler-arity
queue.handler(StockSupplied)(none_async)  # E: handler-arity
queue.handler(StockSupplied)(two_async)  # E: handler-arity
queue.handler(StockSupplied)(lambda: None)  # E: handler-arity
queue.handler(StockSupplied)(lambda one, two: None)  # E: handler-arity
queue.handler(StockSupplied)("print")  # E: handler-not-callable
queue.handler(StockSupplied)(Empty())  # E: handler-not-callable
queue.handler(StockSupplied)(None)  # E: handler-not-callable
queue.handler(print)  # E: handler-without-contract
queue.handler(5)  # E: handler-contract
queue.handler(StockSupplied())  # E: handler-contract
queue.handler(Empty)  # E: handler-contract
queue.handler(StockSupplied, queue=5)  # E: option-type
queue.handler(StockSupplied, schema=StockSupplied())  # E: option-type
queue.handler(StockSupplied, schema="StockSupplied")  # E: option-type
queue.handler(StockSupplied, retry="3")  # E: option-type
queue.handler(StockSupplied, retry=1.5)  # E: option-type
queue.handler(StockSupplied, retry=RetryPolicy)  # E: option-type
queue.handler(StockSupplied, retry=lambda attempt: 1)  # E: option-type
queue.handler(StockSupplied, retry=lambda attempt, error: object())  # E: option-type
queue.handler(StockSupplied, dead_on="KeyError")  # E: option-type
queue.handler(StockSupplied, dead_on=KeyError("x"))  # E: option-type
queue.handler(StockSupplied, dead_on=[KeyError])  # E: option-type
queue.handler(StockSupplied, dead_on=(int,))  # E: option-type
queue.handler(StockSupplied, retries=3)  # E: unknown-option
queue.handler(contract=StockSupplied)  # E: unknown-option
queue.handler(StockSupplied, "inventory_updates")  # E: option-by-position
queue.handle(StockSupplied)  # E: misspelt-method


@queue.handler(StockSupplied)  # E: handler-arity
def decorated() -> None:
    """Takes no message."""


@queue.handler  # E: handler-without-contract
def bare(supplied: dict[str, Any]) -> None:
    """Handles what?"""


@queue.handler(StockSupplied)
def kept(supplied: dict[str, Any]) -> int:
    """The decorator keeps the type, so a wrong call is an error, too."""
    return 1


kept()  # E: kept-type
kept({}).upper()  # E: kept-type

# Sending ---------------------------------------------------------------------------------------

queue.send()  # E: send-arity
queue.send(StockSupplied, {}, {})  # E: send-arity
queue.send(5, {})  # E: send-contract
queue.send(StockSupplied(), {})  # E: send-contract
queue.send(Empty, {})  # E: send-contract
queue.send([StockSupplied], {})  # E: send-contract
queue.send(StockSupplied, {}, delay=object())  # E: option-type
queue.send(StockSupplied, {}, delay=[1])  # E: option-type
queue.send(StockSupplied, {}, expires=b"1h")  # E: option-type
queue.send(StockSupplied, {}, headers=["tenant"])  # E: option-type
queue.send(StockSupplied, {}, headers={1: "north"})  # E: option-type
queue.send(StockSupplied, {}, headers={"tenant": 1.5})  # E: option-type
queue.send(StockSupplied, {}, headers={"tenant": None})  # E: option-type
queue.send(StockSupplied, {}, headers="tenant")  # E: option-type
queue.send(StockSupplied, {}, queue=5)  # E: option-type
queue.send(StockSupplied, {}, queue=queue)  # E: option-type
queue.send(StockSupplied, {}, id=5)  # E: option-type
queue.send(StockSupplied, {}, dedup=True)  # E: option-type
queue.send(StockSupplied, {}, dedup="k", dedup_window={})  # E: option-type
queue.send(StockSupplied, {}, dely=1)  # E: unknown-option
queue.send(StockSupplied, {}, retry=3)  # E: unknown-option
queue.send(StockSupplied, {}, **NAMES)  # E: unknown-option
queue.send(StockSupplied, payload={})  # E: unknown-option
queue.send({}, delay=object())  # E: option-type
queue.send({}, headers=["tenant"])  # E: option-type
queue.send({}, id=5)  # E: option-type
queue.send({}, dely=1)  # E: unknown-option
queue.sned(StockSupplied, {})  # E: misspelt-method
print(queue.send(StockSupplied, {}).ID)  # E: misspelt-attribute
queue.send(StockSupplied, {}).id = "1"  # E: frozen
queue.send_many(StockSupplied)  # E: send-arity
queue.send_many(StockSupplied, 5)  # E: send-payloads
queue.send_many(5, [])  # E: send-contract
queue.send_many(StockSupplied(), [])  # E: send-contract
queue.send_many(StockSupplied, [], delay=object())  # E: option-type
queue.send_many(StockSupplied, [], headers=["tenant"])  # E: option-type
queue.send_many(StockSupplied, [], queue=5)  # E: option-type
queue.send_many(StockSupplied, [], id="1")  # E: unknown-option
queue.send_many(StockSupplied, [], dely=1)  # E: unknown-option

# The rest --------------------------------------------------------------------------------------

flask_redis_queue.RedisQuue()  # E: misspelt-name
RedisQueue("shop")  # E: option-type
RedisQueue(app, contracts=5)  # E: option-type
RedisQueue(app, contracts="contracts")  # E: option-type
RedisQueue(app, contracts=StockSupplied())  # E: option-type
RedisQueue(app, contracts=[5])  # E: option-type
RedisQueue(app, contracts=Empty)  # E: option-type
RedisQueue(app, handlers=5)  # E: option-type
RedisQueue(app, handlers=[5])  # E: option-type
RedisQueue(app, contract=StockSupplied)  # E: unknown-option
RedisQueue(app, StockSupplied)  # E: option-by-position
queue.init_app("shop")  # E: option-type
queue.init(app)  # E: misspelt-method
queue.consumer()  # E: option-missing
queue.consumer(app, queues=5)  # E: option-type
queue.consumer(app, max_messages="5")  # E: option-type
queue.consumer(app, max_seconds=object())  # E: option-type
queue.consumer(app, stop_timeout=[1])  # E: option-type
queue.consumer(app, name=5)  # E: option-type
queue.consumer(app, burts=True)  # E: unknown-option
queue.consumer(app).start()  # E: misspelt-method
print(queue.consumer(app).run().handeld)  # E: misspelt-attribute
RetryPolicy("3")  # E: option-type
RetryPolicy(min=object())  # E: option-type
RetryPolicy(factor="2")  # E: option-type
RetryPolicy(tries=3)  # E: unknown-option
RetryPolicy().max_attempts = 3  # E: frozen
Retry(object())  # E: option-type
Retry(after="5m")  # E: unknown-option
Reject(5)  # E: option-type
print(current_message.ID)  # E: misspelt-attribute
current_message.attempt.upper()  # E: attribute-type
message(5)  # E: option-type
message("t", queue=5)  # E: option-type
message("t", format="xml")  # E: option-type
message("t", name="x")  # E: unknown-option
message("t")(Empty)  # E: no-schema
message("t")(StockSupplied())  # E: no-schema


@message  # E: no-type
class NoType(Schema):
    """A contract has a type."""


def use(tester: QueueTester) -> None:
    """The fixtures are typed, too."""
    tester.send(StockSupplied, {}, dely=1)  # E: unknown-option
    tester.send(StockSupplied, {}, id=5)  # E: option-type
    tester.perform(StockSupplied, {}, attempt="2")  # E: option-type
    tester.perform(StockSupplied, {}, delay=1)  # E: unknown-option
    tester.assert_sent(5)  # E: send-contract
    tester.drain(5)  # E: option-type
    tester.drain(allow_daed=True)  # E: unknown-option
    tester.fail_next("KeyError")  # E: option-type
    tester.fail_next(KeyError, time=2)  # E: unknown-option
    tester.travel(object())  # E: option-type
    tester.darin()  # E: misspelt-method
