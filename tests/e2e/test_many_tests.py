"""How fast a user's own tests are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

SUITE = """
import pytest
from flask import Flask
from marshmallow import Schema, fields
from flask_redis_queue import RedisQueue, message

@message("order.placed")
class OrderPlaced(Schema):
    number = fields.Integer(required=True)

queue = RedisQueue()
handled = []

@queue.handler(OrderPlaced)
def place(order):
    handled.append(order["number"])

@pytest.fixture
def app():
    app = Flask("shop")
    queue.init_app(app)
    return app

@pytest.mark.parametrize("number", range(1000))
def test_it(redis_queue, number):
    redis_queue.send(OrderPlaced, {"number": number})
    redis_queue.assert_sent(OrderPlaced, number=number)
    assert redis_queue.drain().handled == 1
    assert handled[-1] == number
"""


def test_a_thousand_tests_take_seconds(tmp_path: Path) -> None:
    """1,000 tests that send and drain, without a server: 5 s is the goal, 25 s fails."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    empty = tmp_path / "empty"
    empty.mkdir()
    environ = {**os.environ, "PATH": str(empty), "REDIS_URL": "redis://127.0.0.1:1/0"}
    environ.pop("REDIS_SERVER_BINARY", None)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "flask_redis_queue.testing"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
    )
    took = time.monotonic() - started
    print(f"1,000 tests in {took:.1f}s")
    assert "1000 passed" in done.stdout, done.stdout[-2000:]
    assert took < 25
