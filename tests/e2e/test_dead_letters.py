"""``flask queue dead``, given what senders and errors may hold, and what fingers may type."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ..conftest import eventually
from .test_cli import Shop

APP = """
import os
import re
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
    assert r"ValueError: name: caf\udce9" == exported[0]["why"]
    assert (0, "3 back on orders.\n") == shop.run("queue", "dead", "replay", "--all")
    kill(shop)
    code, output = shop.run("queue", "dead", "delete", "--all", "--yes")
    assert (0, "3 deleted from orders.\n") == (code, output)


HOSTILE = "\x1b]0;pwn\x07 \x9b31m \x7f \u202e"


def test_control_characters_are_shown_and_not_obeyed(shop: Shop) -> None:
    """What a sender writes neither colours a terminal nor forges a line of a log."""
    kill(
        shop,
        event("a\nb\x1b[31m\u202ehostile1"),
        event("typed222", type=HOSTILE + "\nq  FORGED"),
        b"\xff\xfe\x00raw\x1b[2J\x9b",
        event("error444", number=HOSTILE),  # type: ignore[arg-type]
    )
    shop.client.lpush("orders", event("peek5555" + HOSTILE, type="a\nb" + HOSTILE), b"\x1b[2J")
    for command in (
        ("queue", "dead", "list"),
        ("queue", "dead", "groups"),
        ("queue", "dead", "show", "typed222"),
        ("queue", "dead", "show", "hostile1"),
        ("queue", "dead", "show", "error444"),
        ("queue", "peek", "orders"),
        ("queue", "show", "peek5555"),
        ("queue", "show", HOSTILE[:8]),
        ("consume", "--burst"),
        ("consume", "--burst", "-v"),
    ):
        _, output = shop.run(*command)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", output), (command, output)
        assert not re.search("^(q  FORGED|b)", output, re.MULTILINE), (command, output)
        if command[0] == "consume":
            shop.run("queue", "dead", "replay", "--all")
    shop.environ["NO_COLOR"] = "1"
    output = shop.terminal("consume", "--burst", "--log-format", "pretty", "-v")
    assert "\x1b]0" not in output
    assert r"\x1b]0;pwn\x07" in output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("dead list --group deadbeef", 'No group "deadbeef" on orders. See: flask queue dead gr'),
        ("dead replay --group deadbeef", 'No group "deadbeef" on orders.'),
        ("dead delete --group deadbeef --yes", 'No group "deadbeef" on orders.'),
        ("dead list --group deadbeef --json", 'No group "deadbeef" on orders.'),
        ("status nosuch", 'No queue "nosuch": this app does not know it, and Redis has nothing'),
        ("dead list --queue nosuch", 'No queue "nosuch"'),
        ("dead groups --queue nosuch", 'No queue "nosuch"'),
        ("dead export --queue nosuch", 'No queue "nosuch"'),
        ("dead delete --all --queue nosuch --yes", 'No queue "nosuch"'),
        ("peek nosuch", 'No queue "nosuch"'),
    ],
)
def test_what_is_not_there_is_told_by_the_exit_code(shop: Shop, command: str, said: str) -> None:
    """A slip of the finger is not "nothing to do"."""
    kill(shop, event("one-1111"))
    code, output = shop.run("queue", *command.split())
    assert (1, True) == (code, said in output), output


def test_what_redis_has_need_not_be_known(shop: Shop) -> None:
    """A queue of another app is looked at by its name."""
    shop.client.lpush("bills", "1")
    for command in (("status", "bills"), ("dead", "list", "--queue", "bills"), ("peek", "bills")):
        assert 0 == shop.run("queue", *command)[0]


def test_an_empty_id_means_nothing(shop: Shop) -> None:
    """As an empty variable of a shell: it is not the end of every id."""
    kill(shop, event("one-1111"))
    for command in (("delete", "--yes"), ("replay",), ("show",)):
        for empty in ("", " "):
            code, output = shop.run("queue", "dead", *command, empty)
            assert (2, True) == (code, "The ID is empty" in output), output
    assert 1 == len(shop.json("queue", "dead", "list"))


def test_an_id_of_two_letters_is_decided_by_the_person(shop: Shop) -> None:
    """Even where it is given whole; each is told with what tells them apart."""
    kill(shop, event("twin-1111", 1), event("twin-1111", 13), event("other-1111"))
    for wanted, count in (("twin-1111", 2), ("1111", 3)):
        code, output = shop.run("queue", "dead", "delete", wanted, "--yes")
        assert (1, True) == (code, f'"{wanted}" is {count} dead letters' in output), output
        assert (count, True) == (output.count("order.placed"), "ValueError: name" in output)
        assert (count, count) == (
            output.count("failed"),
            len(re.findall(r"\d\d:\d\d:\d\d", output)),
        )
    key = shop.json("queue", "dead", "list")[0]["key"]
    assert (0, "1 deleted from orders.\n") == shop.run("queue", "dead", "delete", key, key, "--yes")


def test_an_expired_letter_is_not_brought_back_to_vanish(shop: Shop) -> None:
    """It stays, and is told; of many the others go."""
    soon = (datetime.now(UTC) + timedelta(seconds=2.5)).isoformat()
    kill(shop, event("expired-1111", expirytime=soon), event("two-2222"))
    expired = datetime.fromisoformat(soon).timestamp()
    eventually(lambda: time.time() > expired + 0.2, "it has expired")
    for more in ((), ("--edit", '{"number": 2}')):
        code, output = shop.run("queue", "dead", "replay", "expired-1111", *more)
        assert (1, True) == (code, "Not replayed" in output and "has expired" in output), output
        assert "flask queue send" in output
    code, output = shop.run("queue", "dead", "replay", "--all")
    assert (0, True) == (code, "1 back on orders." in output), output
    assert "1 dead letter of orders has expired" in output
    assert ["expired-1111"] == [one["id"] for one in shop.json("queue", "dead", "list")]


def test_an_edit_changes_the_data_alone(shop: Shop) -> None:
    """All other attributes of the event stay as they were written."""
    more = {"subject": "sub", "dataschema": "http://x", "time": "2020-01-01T00:00:00.123456+02:00"}
    old = event("meta-1111", traceparent="00-ab", datacontenttype="application/x+json", **more)
    kill(shop, old)
    code, output = shop.run("queue", "dead", "replay", "meta-1111", "--edit", '{"number": 2}')
    assert (0, "1 back on orders.\n") == (code, output)
    (found,) = shop.json("queue", "peek", "orders")
    assert {**json.loads(old), "data": {"number": 2}} == json.loads(found["raw"])


def test_an_edit_of_base64_becomes_json(shop: Shop) -> None:
    """The old data goes, in whichever attribute it stood."""
    body = json.loads(event("base-1111"))
    del body["data"]
    kill(shop, json.dumps({**body, "data_base64": "eyJudW1iZXIiOiAxfQ=="}))
    assert 0 == shop.run("queue", "dead", "replay", "base-1111", "--edit", '{"number": 2}')[0]
    (found,) = shop.json("queue", "peek", "orders")
    assert {**body, "data": {"number": 2}} == json.loads(found["raw"])


def test_a_refused_edit_leaves_the_letter_as_it_was(shop: Shop) -> None:
    """And says so; that nothing was sent is not the point."""
    shop.environ["REDIS_QUEUE_MAX_BYTES"] = "1k"
    kill(shop, event("meta-1111"), json.dumps([1]))
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


@pytest.mark.parametrize("rate", ["inf", "-inf", "nan", "0", "-1", "1e400", "soon"])
def test_a_rate_is_a_number(shop: Shop, rate: str) -> None:
    """Anything else is told in a sentence."""
    code, output = shop.run("queue", "dead", "replay", "--all", "--rate", rate)
    assert (2, True, False) == (code, "Invalid value for '--rate'" in output, "Trace" in output)


@pytest.mark.parametrize("user", ["", " ", "a b", "x\nuser evil on", "x\x1b", "x\u202e", "\u2028"])
def test_a_user_of_redis_is_one_word(shop: Shop, user: str) -> None:
    """A name with a blank or a line break would be more rules, or another user."""
    code, output = shop.run("queue", "acl", "--role", "producer", "--user", user)
    assert (2, True) == (code, "Invalid value for '--user'" in output), output
