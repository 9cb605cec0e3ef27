"""A doubtful send says how long its id is remembered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from flask_redis_queue import QueueUnavailable, config
from flask_redis_queue.options import check_options
from flask_redis_queue.publisher import Publisher
from flask_redis_queue.registry import Registry
from flask_redis_queue.retry import RetryPolicy

from ..apps import GOODS, StockSupplied


@pytest.mark.parametrize(
    ("options", "said"), [({}, "within 1m stores it once"), ({"id": "a"}, "within 2h stores it")]
)
def test_a_doubtful_send_says_how_long(options: dict[str, str], said: str) -> None:
    """A minute where the id is our own, the window of ``dedup=`` where it is the sender's."""
    settings = {"REDIS_QUEUE_DEDUP_WINDOW": "2h", "REDIS_QUEUE_SEND_TIMEOUT": "10ms"}

    def silent(request: Any) -> None:
        raise RedisTimeoutError

    broker: Any = SimpleNamespace(send=silent)
    publisher = Publisher(config.load(settings, {}), broker, "shop", "app")
    registry = Registry([], [], "orders", RetryPolicy())
    with pytest.raises(QueueUnavailable, match=said) as caught:
        publisher.send(registry, StockSupplied, GOODS, check_options(**options))
    assert "unknown" == caught.value.stored
