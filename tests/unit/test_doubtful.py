"""A doubtful send says what happens to what is sent again, and with what it is known."""

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

SETTINGS = {"REDIS_QUEUE_DEDUP_WINDOW": "2h", "REDIS_QUEUE_SEND_TIMEOUT": "10ms"}
TWICE = "What is sent again may be stored twice. .* each with its own dedup="


def publisher(format: str = "cloudevents") -> Publisher:
    """:return: One whose Redis takes everything, and answers nothing."""

    def silent(request: Any) -> None:
        raise RedisTimeoutError

    broker: Any = SimpleNamespace(send=silent)
    settings = {**SETTINGS, "REDIS_QUEUE_FORMAT": format}
    return Publisher(config.load(settings, {}), broker, "shop", "app")


@pytest.mark.parametrize(
    ("format", "options", "said", "has_id"),
    [
        ("cloudevents", {}, 'with id="[^"]+" within 1m stores it once', True),
        ("cloudevents", {"id": "a"}, 'with id="a" within 2h stores it once', True),
        ("cloudevents", {"dedup": "d"}, 'with dedup="d" within 2h stores it once', True),
        ("plain", {}, TWICE, False),
        ("plain", {"dedup": "d"}, 'with dedup="d" within 2h stores it once', False),
    ],
)
def test_one_message(format: str, options: dict[str, str], said: str, has_id: bool) -> None:
    """It names what the message carries: its id for a minute, the sender's for its own window."""
    registry = Registry([], [], "orders", RetryPolicy())
    with pytest.raises(QueueUnavailable, match=said) as caught:
        publisher(format).send(registry, StockSupplied, GOODS, check_options(**options))
    assert ("unknown", has_id) == (caught.value.stored, caught.value.id is not None)


def test_many() -> None:
    """They take no id from the sender, so none is named."""
    registry = Registry([], [], "orders", RetryPolicy())
    with pytest.raises(QueueUnavailable, match=TWICE) as caught:
        publisher().send_many(registry, StockSupplied, [GOODS, GOODS], check_options())
    assert ("unknown", None) == (caught.value.stored, caught.value.id)
