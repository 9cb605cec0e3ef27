"""What stands in a log and on a terminal: whole lines, colours, and one object for each event."""

from __future__ import annotations

import json
import re

import pytest

from .shop import Shop

WORDY = """
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


def test_json_lines_are_for_machines(shop: Shop) -> None:
    """Every line is an object; a failure carries its traceback."""
    shop.push(1, 13)
    code, output = shop.run("consume", "-b", "--log-format", "json")
    events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    names = [one["event"] for one in events]
    assert (0, ["started", "ready", "handled", "retried", "stopped"]) == (code, names), output
    assert ("orders", 1, None) == tuple(events[2][name] for name in ("queue", "attempt", "type"))
    assert "KeyError: 'thirteen'" in events[3]["traceback"]
    assert (1, 1) == (events[4]["handled"], events[4]["retried"])


def test_a_terminal_gets_colours_and_a_bar(shop: Shop) -> None:
    """Burst shows a bar that ends at the number of messages; failures stand above it."""
    shop.push(*range(1, 31))
    output = shop.terminal("consume", "-b")
    assert "handling" in output
    assert "30/30" in output
    assert re.search(r"\x1b\[33m↻\x1b\[0m orders \(untyped\)", output)
    assert "29 handled · 1 retried" in output


@pytest.mark.parametrize("options", [{"NO_COLOR": "1"}, {}])
def test_colours_can_be_switched_off(shop: Shop, options: dict[str, str]) -> None:
    """NO_COLOR, and --log-format plain, leave no colour on a terminal."""
    shop.push(1, 13)
    arguments = () if options else ("--log-format", "plain")
    output = shop.terminal("consume", "-b", "-v", *arguments, **options)
    assert ("\x1b[" not in output, "1 handled" in output) == (True, True), output


def test_lines_are_cut_on_a_terminal_alone(shop: Shop) -> None:
    """The end of an error's text is often what helps."""
    shop.write(WORDY)
    shop.push(13)
    assert "and the END is what matters · dead after 1 try" in shop.run("consume", "--burst")[1]
    assert "and the END is what matters" in shop.run("queue", "dead", "list")[1]
    assert "and the END" not in shop.terminal("queue", "dead", "list")
    assert 0 == shop.run("queue", "dead", "replay", "--all")[0]
    shown = shop.terminal("consume", "--burst")
    assert (True, False) == ("… · dead after 1 try" in shown, "and the END" in shown)


def test_json_events_are_not_summed_up(shop: Shop) -> None:
    """Each message is one object, however many there are a second; lines are summed up."""
    shop.write(WORDY)
    shop.push(*range(100, 500))
    code, output = shop.run("consume", "--burst", "--log-format", "json")
    events = [json.loads(line) for line in output.splitlines()]
    handled = [one for one in events if one["event"] == "handled"]
    assert (0, 400, True) == (code, len(handled), all(one["id"] for one in handled))
    shop.push(*range(100, 500))
    assert "more handled" in shop.run("consume", "--burst")[1]


def test_an_untyped_message_has_no_id_to_look_for(shop: Shop) -> None:
    """A bare payload carries none: the line says where it is seen."""
    shop.write(WORDY)
    said = "An untyped message is on its way on orders. It carries no id; to see it: "
    code, output = shop.run("queue", "send", "--queue", "orders", '{"number": 5}')
    assert (0, f"{said}flask queue peek orders\n") == (code, output)
    assert {"type": None, "queue": "orders", "duplicate": False, "id": None} == shop.json(
        "queue", "send", "--queue", "orders", '{"number": 6}'
    )
