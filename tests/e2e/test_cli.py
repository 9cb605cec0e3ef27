"""The commands as a user types them: what they print, and how they end."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from ..conftest import eventually

ROOT = Path(__file__).resolve().parents[2]
APP = """
from flask import Flask
from flask_redis_queue import RedisQueue, message
from marshmallow import Schema, fields

@message("order.placed", queue="orders")
class OrderPlaced(Schema):
    number = fields.Integer(required=True, strict=True)

app = Flask("shop")
queue = RedisQueue(app)

@queue.handler(OrderPlaced, retry=2)
def place(order):
    if order["number"] == 13:
        raise KeyError("thirteen")
    print("placed", order["number"], flush=True)
"""


class Shop:
    """A folder with an app, in which commands are typed."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.client = redis.Redis.from_url(url)
        (folder / "shop.py").write_text(APP)
        self.environ = {**os.environ, "REDIS_URL": url, "PYTHONPATH": str(ROOT)}
        self.environ.pop("NO_COLOR", None)

    def command(self, *arguments: str) -> list[str]:
        """:return: A ``flask`` command."""
        return [sys.executable, "-m", "flask", "--app", "shop", *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
        """:return: Exit code, and all that was printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ,
            input=stdin or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout

    def json(self, *arguments: str) -> Any:
        """:return: What a command says with ``--json``."""
        code, output = self.run(*arguments, "--json")
        assert 0 == code, output
        return json.loads(output)

    def terminal(self, *arguments: str, **environ: str) -> str:
        """:return: What a command shows on a terminal."""
        parent, child = pty.openpty()
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env={**self.environ, "TERM": "xterm", "COLUMNS": "120", **environ},
            stdin=child,
            stdout=child,
            stderr=child,
        )
        os.close(child)
        parts = []
        try:
            while part := os.read(parent, 65536):
                parts.append(part)
        except OSError:  # Linux says EIO at the end
            pass
        os.close(parent)
        process.wait(20)
        return b"".join(parts).decode()

    def push(self, *numbers: int) -> None:
        """Push as an old producer does."""
        for number in numbers:
            self.client.lpush("orders", json.dumps({"number": number}))


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """A folder with an app, and an empty server."""
    return Shop(tmp_path, redis_url)


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


def test_status_alive_is_a_health_check(shop: Shop) -> None:
    """0 while the consumer of this name renews its lease, else 1 and a sentence."""
    code, output = shop.run("queue", "status", "--alive", "web")
    assert (1, True) == (code, 'No consumer "web" on orders.' in output)
    consumer = subprocess.Popen(
        shop.command("consume", "--name", "web", "-q"), cwd=shop.folder, env=shop.environ
    )
    eventually(lambda: shop.client.zcard("{orders}:leases"), "it has entered")
    assert (0, "web is alive.\n") == shop.run("queue", "status", "--alive", "web")
    consumer.send_signal(signal.SIGKILL)
    consumer.wait()
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


def test_reload_starts_anew_when_code_changes(shop: Shop) -> None:
    """A changed file ends the child at its next pause; broken code waits for its cure."""
    log = shop.folder / "output.txt"
    with log.open("w") as out:
        parent = subprocess.Popen(
            shop.command("consume", "--reload"),
            cwd=shop.folder,
            env=shop.environ,
            stdout=out,
            stderr=out,
        )
    try:
        shop.push(1)
        eventually(lambda: "placed 1" in log.read_text(), "the first child handles")
        (shop.folder / "shop.py").write_text("import nowhere\n")
        eventually(lambda: "waiting for a change" in log.read_text(), "it is broken")
        (shop.folder / "shop.py").write_text(APP.replace("placed", "accepted"))
        shop.push(2)
        eventually(lambda: "accepted 2" in log.read_text(), "the third child handles")
    finally:
        parent.send_signal(signal.SIGTERM)
        assert 0 == parent.wait(20)
    output = log.read_text()
    assert output.count("shop.py changed; starting anew") >= 2
    assert "No module named 'nowhere'" in output
    assert 2 == output.count("stopped ·"), output


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


def test_dead_letters_are_grouped_by_cause(shop: Shop) -> None:
    """Numbers and ids make no other group; a group is replayed or deleted as one."""
    shop.push(13, 13, 13)
    shop.client.lpush("orders", b'{"number": "x1"}', b'{"number": "x2"}', b"\xff")
    (shop.folder / "shop.py").write_text(APP.replace("retry=2", "retry=1"))
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


def test_a_dead_letter_is_edited(shop: Shop) -> None:
    """It gets another payload, which its contract checks, and keeps its id and headers."""
    (shop.folder / "shop.py").write_text(APP.replace("retry=2", "retry=1"))
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
    with (shop.folder / "shop.py").open("a") as app:
        app.write("""
@queue.handler(queue="orders")
def place_any(order):
    pass
""")
    anything = ("queue", "dead", "replay", letters[1]["key"], "--edit", '"anything"')
    assert {"orders": 1} == shop.json(*anything)


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
    (shop.folder / "shop.py").write_text(APP + more)
    code, output = shop.run("consume")
    assert 1 == code, output
    assert ("Traceback" in output, "Error: broken" in output) == (True, True), output
    assert "The consumer crashed" in output
