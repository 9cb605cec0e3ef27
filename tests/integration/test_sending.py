"""What a send stores, and what it refuses."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask import Flask

from flask_redis_queue import (
    ConfigurationError,
    QueueFull,
    QueueRefused,
    RedisQueue,
    message_sent,
)

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..servers import RealServer
from .test_queue import status


def test_same_id_and_dedup_store_once(redis_url: str) -> None:
    """A second send with the id, or with the dedup key, is a no-op that says so."""
    app, queue = make_app(redis_url)
    with app.app_context():
        first = queue.send(StockSupplied, GOODS, id="order-1")
        again = queue.send(StockSupplied, GOODS, id="order-1")
        keyed = queue.send(StockSupplied, GOODS, dedup="k")
        other = queue.send(StockSupplied, GOODS, dedup="k")
    assert (False, True) == (first.duplicate, again.duplicate)
    assert (keyed.id, True) == (other.id, other.duplicate)
    assert 2 == status(app).waiting


def test_delay_and_expiry(redis_url: str) -> None:
    """A delayed message waits; an expired one is handled by nobody and is counted."""
    app, queue = make_app(redis_url)
    got: list[float] = []
    queue.handler(StockSupplied)(lambda supplied: got.append(time.monotonic()))
    sent_at = time.monotonic()  # before: the delay begins on the server, before send returns
    with app.app_context():
        queue.send(StockSupplied, GOODS, expires="1ms")
        queue.send(StockSupplied, GOODS, delay="300ms")
    tally = queue.consumer(app, max_messages=2, max_seconds=20).run()
    assert (1, 1) == (tally.handled, tally.expired)
    assert got[0] - sent_at >= 0.25
    assert 0 == status(app).missing


def test_full_queue_refuses(redis_url: str) -> None:
    """Past REDIS_QUEUE_MAX_LENGTH a send raises and stores nothing."""
    app, queue = make_app(redis_url, REDIS_QUEUE_MAX_LENGTH=2)
    with app.app_context():
        queue.send_many(StockSupplied, [GOODS] * 2)
        with pytest.raises(QueueFull, match="Nothing was stored"):
            queue.send(StockSupplied, GOODS)
    assert 2 == status(app).waiting


def test_message_sent_signal_and_wrong_uses(redis_url: str) -> None:
    """message_sent carries the message; wrong uses get their sentence."""
    app, queue = make_app(redis_url)
    sent = []

    def receive(sender: Flask, message: Any, **extra: Any) -> None:
        sent.append(message.type)

    with message_sent.connected_to(receive, sender=app), app.app_context():
        queue.send(StockSupplied, GOODS)
        with pytest.raises(ConfigurationError, match="another RedisQueue"):
            RedisQueue().send(StockSupplied, GOODS)
        with pytest.raises(ValueError, match="delay is 'soon'"):
            queue.send(StockSupplied, GOODS, delay="soon")
    assert ["stock.supplied"] == sent
    with pytest.raises(ConfigurationError, match="has a RedisQueue already"):
        queue.init_app(app)
    with pytest.raises(ConfigurationError, match="No handlers"):
        queue.consumer(app)


@pytest.mark.parametrize("lacking", ["evalsha", "set", "lpush", "hincrby", "time"])
def test_a_missing_permission_stores_nothing(own_server: RealServer, lacking: str) -> None:
    """Refused at once, or in the midst of the script: the sentence is the same, and true."""
    own_server.client().execute_command(f"ACL SETUSER shop on >secret ~* +@all -{lacking}")
    app, queue = make_app(own_server.url.replace("//", "//shop:secret@"))
    said = "NOT sent, and nothing was stored"
    with app.app_context(), pytest.raises(QueueRefused, match=said) as refused:
        queue.send(StockSupplied, GOODS)
    client = own_server.client()
    assert ("no", 0) == (refused.value.stored, client.llen(QUEUE))
    assert [] == client.keys(f"{{{QUEUE}}}:seen:*")
    assert 'User "shop" may not run' in str(refused.value)
    assert "secret" not in str(refused.value)
