"""What stands in a log: whole lines, and one object for each event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .test_cli import Shop

APP = """
from flask import Flask
from flask_redis_queue import RedisQueue

app = Flask("shop")
queue = RedisQueue(app)
TEXT = "long " * 40 + "and the END is what matters"

@queue.handler(queue="orders", retry=1)
def place(order):
    if order["number"] == 13:
        raise ValueError(TEXT)
"""


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """A folder with an app, and an empty server."""
    shop = Shop(tmp_path, redis_url)
    (tmp_path / "shop.py").write_text(APP)
    return shop


def test_lines_are_cut_on_a_terminal_alone(shop: Shop) -> None:
    """The end of an error's text is often what helps."""
    shop.push(13)
    assert "and the END is what matters · dead after 1 try" in shop.run("consume", "--burst")[1]
    assert "and the END is what matters" in shop.run("queue", "dead", "list")[1]
    assert "and the END" not in shop.terminal("queue", "dead", "list")
    assert 0 == shop.run("queue", "dead", "replay", "--all")[0]
    shown = shop.terminal("consume", "--burst")
    assert (True, False) == ("… · dead after 1 try" in shown, "and the END" in shown)


def test_json_events_are_not_summed_up(shop: Shop) -> None:
    """Each message is one object, however many there are a second; lines are summed up."""
    shop.push(*range(100, 500))
    code, output = shop.run("consume", "--burst", "--log-format", "json")
    events = [json.loads(line) for line in output.splitlines()]
    handled = [one for one in events if one["event"] == "handled"]
    assert (0, 400, True) == (code, len(handled), all(one["id"] for one in handled))
    shop.push(*range(100, 500))
    assert "more handled" in shop.run("consume", "--burst")[1]


def test_an_untyped_message_has_no_id_to_look_for(shop: Shop) -> None:
    """A bare payload carries none: the line says where it is seen."""
    said = "An untyped message is on its way on orders. It carries no id; to see it: "
    code, output = shop.run("queue", "send", "--queue", "orders", '{"number": 5}')
    assert (0, f"{said}flask queue peek orders\n") == (code, output)
    assert {"type": None, "queue": "orders", "duplicate": False, "id": None} == shop.json(
        "queue", "send", "--queue", "orders", '{"number": 6}'
    )
