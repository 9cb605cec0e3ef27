"""What the tests of the protocol begin with."""

from __future__ import annotations

from typing import Any

from flask_redis_queue.broker import Broker
from flask_redis_queue.clients import make_pool
from flask_redis_queue.config import load
from flask_redis_queue.outcomes import Ack
from flask_redis_queue.subscription import Subscription

from ..apps import GOODS, QUEUE, StockSupplied, make_app


def make_broker(url: str, **settings: Any) -> Broker:
    """:return: A broker with its own connections."""
    config = load({"REDIS_URL": url, **settings}, {})
    return Broker(make_pool(config, 30), config)


def subscribe(broker: Broker, name: str = "c") -> Subscription:
    """:return: A consumer that has entered."""
    one = Subscription(broker, QUEUE, name, broker.pool)
    one.enter()
    return one


def fill(url: str, count: int, **config: Any) -> Any:
    """:return: The inspector of an app that has sent ``count`` messages."""
    app, queue = make_app(url, **config)
    with app.app_context():
        queue.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in range(count)])
    return app.extensions["redis_queue"].inspector


def run(one: Subscription, most: int = 1000) -> int:
    """:return: How many deliveries were taken and acknowledged."""
    done = 0
    while done < most and (delivery := one.take()) is not None:
        one.finish(delivery, Ack(None))  # type: ignore[arg-type]
        done += 1
    return done
