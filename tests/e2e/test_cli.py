"""The commands as a user types them: what they print, and how they end."""

from __future__ import annotations

import re

import pytest

from ..conftest import eventually
from .shop import APP, Shop


def test_send_peek_show_and_handlers(shop: Shop) -> None:
    """A message sent by hand is checked, seen where it stands, and found by its id."""
    code, output = shop.run("queue", "send", "order.placed", '{"number": 5}')
    assert (0, True) == (code, "order.placed is on its way: " in output), output
    number = re.search(r"[0-9a-f-]{36}", output)
    assert number is not None
    id = number[0]
    (shop.folder / "order.json").write_text('{"number": 6}')
    sent = shop.json("queue", "send", "order.placed", "@order.json", "--delay", "1h")
    assert "order.placed" == sent["type"]
    assert 0 == shop.run("queue", "send", "--queue", "orders", "-", stdin='{"number": 7}')[0]
    assert [5, 7] == [one["data"]["number"] for one in shop.json("queue", "peek", "orders")]
    code, output = shop.run("queue", "peek", "orders", "--limit", "1")
    assert (True, True) == ('{"number": 5}' in output, "1 more; --limit shows them." in output)
    assert ["ready"] == [one["place"] for one in shop.json("queue", "show", id)]
    (delayed,) = shop.json("queue", "show", sent["id"][-8:])
    assert ("delayed", {"number": 6}) == (delayed["place"], delayed["data"])
    code, output = shop.run("queue", "show", "nothing")
    assert (1, True) == (code, 'No message "nothing" in orders.' in output)
    (handler,) = shop.json("queue", "handlers")
    assert ("shop.place", "OrderPlaced") == (handler["handler"], handler["schema"])
    assert "as order.placed" in shop.run("queue", "handlers")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("order.placed", '{"number": 5.7}'), "number: Not a valid integer. (got 5.7)"),
        (("order.plced", "{}"), 'Did you mean "order.placed"?'),
        (("order.placed", "{"), "The payload is not JSON"),
        (("order.placed", "@nowhere.json"), "The payload could not be read"),
        (("order.placed", "{}", "{}"), "Give a TYPE and a payload"),
        (("order.placed", '{"number": 5}', "--delay", "soon"), "delay"),
        (("order.placed", '{"number": 5}', "--header", "Bad=1"), "lower-case"),
    ],
)
def test_a_wrong_send_says_why_and_stores_nothing(
    shop: Shop, arguments: tuple[str, ...], said: str
) -> None:
    """A sentence, exit code 2, and an empty queue."""
    code, output = shop.run("queue", "send", *arguments)
    assert (2, True, 0) == (code, said in output, shop.client.llen("orders")), output


def test_status_alive_is_a_health_check(shop: Shop) -> None:
    """0 while the consumer of this name renews its lease, else 1 and a sentence."""
    code, output = shop.run("queue", "status", "--alive", "web")
    assert (1, True) == (code, 'No consumer "web" on orders.' in output)
    with shop.running("consume", "--name", "web", "-q", log=shop.folder / "log"):
        eventually(lambda: shop.client.zcard("{orders}:leases"), "it has entered")
        assert (0, "web is alive.\n") == shop.run("queue", "status", "--alive", "web")
    (name,) = shop.client.zrange("{orders}:leases", 0, -1)
    shop.client.zadd("{orders}:leases", {name: 1})
    code, output = shop.run("queue", "status", "--alive", "web")
    assert (1, True) == (code, "has not renewed its lease" in output), output


def test_check_consumes_nothing(shop: Shop) -> None:
    """The table and a verdict; the message is still there, and no consumer."""
    shop.push(1)
    code, output = shop.run("consume", "--check")
    assert (0, True) == (code, "all is well; nothing was consumed" in output), output
    (status,) = shop.json("queue", "status")
    assert (1, []) == (status["waiting"], status["consumers"])
    shop.environ["REDIS_URL"] = "redis://127.0.0.1:1/0"
    code, output = shop.run("consume", "--check", "--wait-for-redis", "0")
    assert (4, True) == (code, "refused the connection" in output), output


@pytest.mark.parametrize(
    "command",
    [
        ("consume",),
        ("queue", "status"),
        ("queue", "send"),
        ("queue", "peek"),
        ("queue", "show"),
        ("queue", "handlers"),
        ("queue", "server"),
        ("queue", "acl"),
        *(("queue", "dead", n) for n in ("list", "groups", "show", "replay", "delete", "export")),
    ],
)
def test_help_has_examples_and_needs_no_app(shop: Shop, command: tuple[str, ...]) -> None:
    """Each --help ends with something to copy."""
    (shop.folder / "shop.py").unlink()
    code, output = shop.run(*command, "--help")
    assert (0, True) == (code, "Example" in output), output


@pytest.mark.parametrize("error", ['ValueError("broken")', 'RedisQueueError("broken")'])
def test_an_error_while_running_is_a_crash(shop: Shop, error: str) -> None:
    """It ends with 1 and a traceback, not with a code that keeps a service down."""
    more = f"""
from flask_redis_queue import RedisQueueError
from flask_redis_queue.consumer import Consumer

def broken(self):
    raise {error}

Consumer._round = broken
"""
    shop.write(APP + more)
    code, output = shop.run("consume")
    assert 1 == code, output
    assert ("Traceback" in output, "Error: broken" in output) == (True, True), output
    assert "The consumer crashed" in output
