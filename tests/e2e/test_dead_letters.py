"""``flask queue dead``, given what senders and errors may hold, and what fingers may type."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .shop import Shop, event

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


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """A folder with an app that fails, and an empty server."""
    return Shop(tmp_path, redis_url, APP)


def test_dead_letters_are_exported_and_deleted(shop: Shop) -> None:
    """Export leaves them; delete asks, or wants --yes where nobody can be asked."""
    shop.client.lpush("orders", b"\xff", b"{", b"[]")
    assert 6 == shop.run("consume", "-b", "-q")[0]
    assert 0 == shop.run("queue", "dead", "export", "-o", "dead.jsonl")[0]
    lines = (shop.folder / "dead.jsonl").read_text().splitlines()
    assert ["/w==", "ew==", "W10="] == [json.loads(line)["raw_base64"] for line in lines]
    code, output = shop.run("queue", "dead", "delete", "--all")
    assert (2, True) == (code, "deletes 3 dead letters of orders for good" in output)
    first = json.loads(lines[0])["key"]
    assert {"orders": 1} == shop.json("queue", "dead", "delete", first, "--yes")
    assert "2 deleted from orders." in shop.run("queue", "dead", "delete", "--all", "--yes")[1]
    assert "No dead letters." in shop.run("queue", "dead", "delete", "--all", "--yes")[1]
    (status,) = shop.json("queue", "status")
    assert (0, 0, 3) == (status["dead"], status["missing"], status["ledger"]["purged"])


def test_dead_letters_are_grouped_by_cause(shop: Shop) -> None:
    """Numbers and ids make no other group; a group is replayed or deleted as one."""
    shop.push(13, 13, 13)
    shop.client.lpush("orders", b'{"number": "x1"}', b'{"number": "x2"}', b"\xff")
    assert 6 == shop.run("consume", "-b", "-q")[0]
    groups = shop.json("queue", "dead", "groups")
    assert [3, 2, 1] == [one["count"] for one in groups]
    assert ("failed", "shop.py place") == (groups[0]["cause"], groups[0]["frame"])
    code, output = shop.run("queue", "dead", "groups")
    assert (0, True) == (code, "flask queue dead replay --group GROUP" in output)
    assert 3 == len(shop.json("queue", "dead", "list", "--group", groups[0]["group"]))
    moved = shop.json("queue", "dead", "replay", "--group", groups[0]["group"], "--rate", "20")
    assert {"orders": 3} == moved
    gone = shop.json("queue", "dead", "delete", "--group", groups[1]["group"], "--yes")
    assert {"orders": 2} == gone
    (status,) = shop.json("queue", "status")
    assert (3, 1, 0) == (status["waiting"], status["dead"], status["missing"])


def test_half_a_surrogate_pair_blocks_nothing(shop: Shop, tmp_path: Path) -> None:
    """One letter whose text has no code: every command goes on."""
    shop.kill(event("one-1111", 13), event("two-2222"), event("three-3333"))
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
    shop.kill()
    code, output = shop.run("queue", "dead", "delete", "--all", "--yes")
    assert (0, "3 deleted from orders.\n") == (code, output)


HOSTILE = "\x1b]0;pwn\x07 \x9b31m \x7f \u202e"


def test_control_characters_are_shown_and_not_obeyed(shop: Shop) -> None:
    """What a sender writes neither colours a terminal nor forges a line of a log."""
    shop.kill(
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


def test_what_is_not_there_is_told_by_the_exit_code(shop: Shop) -> None:
    """A slip of the finger is not "nothing to do"."""
    shop.kill(event("one-1111"))
    group = 'No group "deadbeef" on orders.'
    unknown = 'No queue "nosuch"'
    for command, said in (
        ("dead list --group deadbeef", f"{group} See: flask queue dead gr"),
        ("dead replay --group deadbeef", group),
        ("dead delete --group deadbeef --yes", group),
        ("dead list --group deadbeef --json", group),
        ("status nosuch", f"{unknown}: this app does not know it, and Redis has nothing"),
        ("dead list --queue nosuch", unknown),
        ("dead groups --queue nosuch", unknown),
        ("dead export --queue nosuch", unknown),
        ("dead delete --all --queue nosuch --yes", unknown),
        ("peek nosuch", unknown),
    ):
        code, output = shop.run("queue", *command.split())
        assert (1, True) == (code, said in output), (command, output)


def test_what_redis_has_need_not_be_known(shop: Shop) -> None:
    """A queue of another app is looked at by its name."""
    shop.client.lpush("bills", "1")
    for command in (("status", "bills"), ("dead", "list", "--queue", "bills"), ("peek", "bills")):
        assert 0 == shop.run("queue", *command)[0]


def test_an_empty_id_means_nothing(shop: Shop) -> None:
    """As an empty variable of a shell: it is not the end of every id."""
    shop.kill(event("one-1111"))
    for command in (("delete", "--yes"), ("replay",), ("show",)):
        for empty in ("", " "):
            code, output = shop.run("queue", "dead", *command, empty)
            assert (2, True) == (code, "The ID is empty" in output), output
    assert 1 == len(shop.json("queue", "dead", "list"))


def test_an_id_of_two_letters_is_decided_by_the_person(shop: Shop) -> None:
    """Even where it is given whole; each is told with what tells them apart."""
    shop.kill(event("twin-1111", 1), event("twin-1111", 13), event("other-1111"))
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
    shop.kill(event("expired-1111", expirytime="2999-01-01T00:00:00Z"), event("two-2222"))
    # As long afterwards: whoever waited for a moment would have to die before it, on any machine.
    for key, stored in shop.client.hgetall("{orders}:dead").items():
        shop.client.hset("{orders}:dead", key, stored.replace(b"2999-01", b"2001-01"))
    for more in ((), ("--edit", '{"number": 2}')):
        code, output = shop.run("queue", "dead", "replay", "expired-1111", *more)
        assert (1, True) == (code, "Not replayed" in output and "has expired" in output), output
        assert "flask queue send" in output
    code, output = shop.run("queue", "dead", "replay", "--all")
    assert (0, True) == (code, "1 back on orders." in output), output
    assert "1 dead letter of orders has expired" in output
    assert ["expired-1111"] == [one["id"] for one in shop.json("queue", "dead", "list")]


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
