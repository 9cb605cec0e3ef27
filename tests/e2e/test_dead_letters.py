"""``flask queue dead``, given what senders and errors may hold, and what fingers may type."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .test_cli import Shop

APP = """
import os
from flask import Flask
from flask_redis_queue import RedisQueue, message
from marshmallow import Schema, fields

@message("order.placed", queue="orders")
class OrderPlaced(Schema):
    number = fields.Integer(required=True, strict=True)

app = Flask("shop")
queue = RedisQueue(app)

@queue.handler(OrderPlaced, retry=1)
def place(order):
    if os.path.exists("mended"):
        return
    if order["number"] == 13:
        raise ValueError("name: " + os.fsdecode(b"caf\\xe9"))
    raise ValueError("no", order["number"])
"""


def event(id: str, number: int = 1, **more: Any) -> str:
    """:return: A message as another program writes it."""
    event = {"specversion": "1.0", "id": id, "source": "s", "type": "order.placed"}
    return json.dumps({**event, "data": {"number": number}, **more})


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """A folder with an app that fails, and an empty server."""
    shop = Shop(tmp_path, redis_url)
    (tmp_path / "shop.py").write_text(APP)
    return shop


def kill(shop: Shop, *bodies: str | bytes) -> str:
    """Make dead letters.

    :return: What the consumer says.
    """
    for body in bodies:
        shop.client.lpush("orders", body)
    code, output = shop.run("consume", "--burst")
    assert 6 == code, output
    return output


def test_half_a_surrogate_pair_blocks_nothing(shop: Shop, tmp_path: Path) -> None:
    """One letter whose text has no code: every command goes on."""
    kill(shop, event("one-1111", 13), event("two-2222"), event("three-3333"))
    for arguments in (("list",), ("groups",), ("export",), ("show", "one-1111")):
        code, output = shop.run("queue", "dead", *arguments)
        assert (0, True) == (code, r"caf\udce9" in output), output
    shop.environ["PYTHONIOENCODING"] = "utf-8:strict"
    assert 3 == len(shop.json("queue", "dead", "list"))
    assert 2 == len(shop.json("queue", "dead", "groups"))
    assert 0 == shop.run("queue", "dead", "export", "-o", "out")[0]
    exported = [json.loads(one) for one in (tmp_path / "out").read_text().splitlines()]
    assert os.fsdecode(b"ValueError: name: caf\xe9") == exported[0]["why"]
    assert (0, "3 back on orders.\n") == shop.run("queue", "dead", "replay", "--all")
    kill(shop)
    code, output = shop.run("queue", "dead", "delete", "--all", "--yes")
    assert (0, "3 deleted from orders.\n") == (code, output)
