"""``flask queue dead replay --edit``: a dead letter gets another payload, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from . import shop as shops
from .shop import Shop, event

APP = shops.APP.replace("retry=LATER", "retry=1")


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """A folder with an app that tries once, and an empty server."""
    return Shop(tmp_path, redis_url, APP)


def test_a_dead_letter_is_edited(shop: Shop) -> None:
    """It gets another payload, which its contract checks, and keeps its id and headers."""
    sent = shop.json("queue", "send", "order.placed", '{"number": 13}', "--header", "tenant=x")
    shop.client.lpush("orders", b"\xff")
    assert 6 == shop.run("consume", "-b", "-q")[0]
    id = sent["id"]
    code, output = shop.run("queue", "dead", "replay", id, "--edit", '{"number": 5.7}')
    assert (2, True) == (code, "number: Not a valid integer." in output), output
    code, output = shop.run("queue", "dead", "replay", "--all", "--edit", "{}")
    assert (2, True) == (code, "--edit is for one message" in output), output
    assert {"orders": 1} == shop.json("queue", "dead", "replay", id, "--edit", '{"number": 14}')
    (found,) = shop.json("queue", "peek", "orders")
    assert (id, {"number": 14}, {"tenant": "x"}) == (found["id"], found["data"], found["headers"])
    (broken,) = shop.json("queue", "dead", "list")
    assert {"orders": 1} == shop.json(
        "queue", "dead", "replay", broken["key"], "--edit", '{"number": 15}'
    )
    assert "placed 14" in (output := shop.run("consume", "-b")[1])
    assert ("placed 15" in output, 0) == (True, shop.json("queue", "status")[0]["missing"])


def test_an_edited_untyped_dead_letter_is_checked_too(shop: Shop) -> None:
    """By the contract of the handler that it goes to; by none where that is not one handler."""
    shop.client.lpush("orders", b"\xff", b'{"number": "x"}')
    assert 6 == shop.run("consume", "-b", "-q")[0]
    letters = shop.json("queue", "dead", "list")
    assert [None, None] == [one["type"] for one in letters]
    for one in letters:
        code, output = shop.run("queue", "dead", "replay", one["key"], "--edit", '{"number": 5.7}')
        assert (2, True) == (code, "number: Not a valid integer." in output), output
        assert 2 == len(shop.json("queue", "dead", "list"))
    good = ("queue", "dead", "replay", letters[0]["key"], "--edit", '{"number": 5}')
    assert {"orders": 1} == shop.json(*good)
    (found,) = shop.json("queue", "peek", "orders")
    assert (None, {"number": 5}) == (found["type"], found["data"])
    shop.write(f"""{APP}
@queue.handler(queue="orders")
def place_any(order):
    pass
""")
    anything = ("queue", "dead", "replay", letters[1]["key"], "--edit", '"anything"')
    assert {"orders": 1} == shop.json(*anything)


def test_an_edit_changes_the_data_alone(shop: Shop) -> None:
    """All other attributes of the event stay as they were written."""
    more = {"subject": "sub", "dataschema": "http://x", "time": "2020-01-01T00:00:00.123456+02:00"}
    old = event("meta-1111", 13, traceparent="00-ab", datacontenttype="application/x+json", **more)
    shop.kill(old)
    code, output = shop.run("queue", "dead", "replay", "meta-1111", "--edit", '{"number": 2}')
    assert (0, "1 back on orders.\n") == (code, output)
    (found,) = shop.json("queue", "peek", "orders")
    assert {**json.loads(old), "data": {"number": 2}} == json.loads(found["raw"])


def test_an_edit_of_base64_becomes_json(shop: Shop) -> None:
    """The old data goes, in whichever attribute it stood."""
    body = json.loads(event("base-1111", 13))
    del body["data"]
    shop.kill(json.dumps({**body, "data_base64": "eyJudW1iZXIiOiAxM30="}))
    assert 0 == shop.run("queue", "dead", "replay", "base-1111", "--edit", '{"number": 2}')[0]
    (found,) = shop.json("queue", "peek", "orders")
    assert {**body, "data": {"number": 2}} == json.loads(found["raw"])


def test_a_refused_edit_leaves_the_letter_as_it_was(shop: Shop) -> None:
    """And says so; that nothing was sent is not the point."""
    shop.environ["REDIS_QUEUE_MAX_BYTES"] = "1k"
    shop.kill(event("meta-1111", 13), json.dumps([1]))
    untyped = next(o["id"] for o in shop.json("queue", "dead", "list") if o["type"] is None)
    long = json.dumps({"number": int("9" * 2000)})
    for id, payload, said in (
        ("meta-1111", '{"number": "x"}', "number: Not a valid integer."),
        (untyped, '{"number": "x"}', "number: Not a valid integer."),
        ("meta-1111", long, "REDIS_QUEUE_MAX_BYTES allows 1,024"),
        (untyped, long, "REDIS_QUEUE_MAX_BYTES allows 1,024"),
    ):
        code, output = shop.run("queue", "dead", "replay", id, "--edit", payload)
        assert (2, True, False) == (code, said in output, "sent" in output), output
        assert "Not replayed; the dead letter is as it was." in output
    assert 2 == len(shop.json("queue", "dead", "list"))
