"""Sending from web servers that fork, run threads, or switch greenlets in the middle of a reply."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import redis

from ..conftest import eventually
from ..servers import Port

ROOT = Path(__file__).resolve().parents[2]
SENDS, PER_REQUEST, CLIENTS = 10_000, 20, 16
# A machine that is busy with sixteen clients is not a Redis that is away.
CALM = {"REDIS_QUEUE_SEND_TIMEOUT": "10s"}
APP = """
import os
from flask import Flask
from flask_redis_queue import RedisQueue, message
from marshmallow import Schema, fields

@message("order.placed", queue="orders")
class OrderPlaced(Schema):
    number = fields.Integer(required=True)

app = Flask("shop")
queue = RedisQueue(app, contracts=OrderPlaced)
with app.app_context():
    queue.send(OrderPlaced, {"number": -1})  # connections that exist when the server forks

@app.post("/orders/<int:first>/<int:count>")
def create(first, count):
    sent = {n: queue.send(OrderPlaced, {"number": n}).id for n in range(first, first + count)}
    return {"sent": sent, "pid": os.getpid()}
"""


@pytest.fixture(params=["--preload --workers 4 --threads 4", "--worker-class gevent --workers 1"])
def port(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[int]:
    """Where gunicorn serves the app."""
    (tmp_path / "shop.py").write_text(APP)
    hold = Port()
    port = hold.number
    bind = ["--bind", f"127.0.0.1:{port}", "--no-control-socket"]  # that would be everybody's
    command = [sys.executable, "-m", "gunicorn", *bind]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, *request.param.split(), "shop:app"],
            cwd=tmp_path,
            env={**os.environ, **CALM, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    eventually(lambda: _answers(port), "gunicorn answers")
    yield port
    server.terminate()
    assert 0 == server.wait(20), (tmp_path / "log").read_text()[-2000:]


def _answers(port: int) -> bool:
    try:
        http = HTTPConnection("127.0.0.1", port, timeout=5)
        http.request("GET", "/")
        return http.getresponse().status == 404
    except OSError:
        return False
    finally:
        http.close()


def _post(port: int, path: str) -> Any:
    # A connection each, so that every worker gets some.
    http = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        http.request("POST", path)
        return json.loads(http.getresponse().read())
    finally:
        http.close()


def test_no_reply_is_crossed_and_no_message_lost(port: int, redis_url: str) -> None:
    """10,000 sends: each view got the id of the message that it sent, and all are there."""
    firsts = iter(range(0, SENDS, PER_REQUEST))
    lock = threading.Lock()
    answered: dict[int, str] = {}
    workers: set[int] = set()
    errors: list[Exception] = []

    def client() -> None:
        while True:
            with lock:
                first = next(firsts, None)
            if first is None:
                return
            try:
                answer = _post(port, f"/orders/{first}/{PER_REQUEST}")
            except Exception as error:
                errors.append(error)
                return
            with lock:
                answered.update({int(n): id for n, id in answer["sent"].items()})
                workers.add(answer["pid"])

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    stored = [json.loads(raw) for raw in redis.Redis.from_url(redis_url).lrange("orders", 0, -1)]
    kept = {one["data"]["number"]: one["id"] for one in stored if one["data"]["number"] >= 0}
    assert SENDS == len(answered) == len(kept)
    assert answered == kept
    print(f"{SENDS:,} sends by {len(workers)} workers")
