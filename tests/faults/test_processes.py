"""The real command as a process, hurt: killed, stopped, without Redis, with wrong apps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from flask_redis_queue.inspector import Inspector

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from ..servers import RealServer

APP = """
import os, time
from pathlib import Path
from flask import Flask
from flask_redis_queue import RedisQueue
from tests.apps import StockSupplied
def create_app():
    app = Flask("shop")
    app.config["REDIS_QUEUE_LEASE"] = os.environ.get("LEASE", "15s")
    queue = RedisQueue(app)
    log = open(os.environ["LEDGER"], "a", buffering=1)
    started = open(os.environ["LEDGER"] + ".started", "ab", buffering=0)
    @queue.handler(StockSupplied)
    def handle(supplied):
        started.write(b"x")
        time.sleep(float(os.environ.get("WORK", "0.001")))
        while (gate := os.environ.get("GATE")) and not Path(gate).exists():
            time.sleep(0.01)
        log.write(f"{supplied['quantity']}\\n")
    return app
"""
ROOT = Path(__file__).resolve().parents[2]


class Shop:
    """An app in a folder, whose commands a test runs."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.ledger = folder, folder / "ledger"
        self.ledger.touch()
        (folder / "shop.py").write_text(APP)
        self.environ = {**os.environ, "REDIS_URL": url, "LEDGER": str(self.ledger)}
        self.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{folder}"
        app, self.queue = make_app(url)
        self.app = app

    def start(self, *arguments: str, app: str = "shop", **environ: str) -> subprocess.Popen[str]:
        """:return: A running ``flask`` command."""
        return self._start(subprocess.PIPE, arguments, app, environ)

    def start_logged(self, *arguments: str, **environ: str) -> tuple[subprocess.Popen[str], Path]:
        """:return: A running ``flask`` command, and the file that it prints to."""
        log = self.folder / "output"
        with log.open("w") as out:
            return self._start(out.fileno(), arguments, "shop", environ), log

    def _start(
        self, stdout: int, arguments: tuple[str, ...], app: str, environ: dict[str, str]
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", app, *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            text=True,
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str, app: str = "shop", **environ: str) -> tuple[int, str]:
        """:return: Exit code and output."""
        process = self.start(*arguments, app=app, **environ)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def send(self, count: int, start: int = 0) -> None:
        """Send numbered messages."""
        with self.app.app_context():
            payloads = [{**GOODS, "quantity": n} for n in range(start, start + count)]
            self.queue.send_many(StockSupplied, payloads)

    def status(self) -> Any:
        """:return: The queue at this moment."""
        inspector: Inspector = self.app.extensions["redis_queue"].inspector
        return inspector.status(QUEUE)

    def held(self) -> set[tuple[bytes, int]]:
        """:return: The numbers that consumers hold, dead ones too, each with whose it is."""
        client = redis.Redis.from_url(self.environ["REDIS_URL"])
        stored = [
            (key, value)
            for key in client.scan_iter(f"{{{QUEUE}}}:held:*")
            for tag, value in client.hgetall(key).items()
            if tag != b"#"
        ]
        return {
            (key, json.loads(one.partition(b"\n")[2])["data"]["quantity"]) for key, one in stored
        }

    def started(self) -> int:
        """:return: How often a handler has begun."""
        path = Path(f"{self.ledger}.started")
        return path.stat().st_size if path.exists() else 0

    def handled(self) -> Counter[int]:
        """:return: How often each number was handled, by the handler's own ledger."""
        return Counter(int(line) for line in self.ledger.read_text().split())


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """An app on an empty server."""
    return Shop(tmp_path, redis_url)


def test_killed_while_it_holds_messages(shop: Shop) -> None:
    """30 kill -9: all is handled, twice only what was handled and not settled, nothing is left."""
    rounds = int(os.environ.get("KILLS", "30"))
    at_kills: list[set[int]] = []
    victims: set[bytes] = set()
    for number in range(rounds):
        shop.send(60, number * 60)
        before = shop.handled()
        consumer = shop.start("consume", "-q", LEASE="1s")
        eventually(lambda b=before: shop.handled().total() > b.total() + 20, "some are handled")
        os.kill(consumer.pid, signal.SIGKILL)
        consumer.communicate()
        # What is run again may meet a second kill: so what counts is what this one did and held.
        own = {(key, n) for key, n in shop.held() if key not in victims}
        victims |= {key for key, _ in own}
        at_kills.append({n for _, n in own} & set(shop.handled() - before))
    last = shop.start("consume", "-q", LEASE="1s")
    eventually(lambda: not shop.status().waiting and not shop.status().held, "drained", 60)
    last.send_signal(signal.SIGTERM)
    last.communicate(timeout=20)
    assert 0 == last.returncode
    handled = shop.handled()
    status = shop.status()
    doubled = {number for number, times in handled.items() if times > 1}
    unsettled = [len(numbers) for numbers in at_kills]
    print(
        f"{rounds} kills, {len(handled)} messages, {len(doubled)} doubled; handled and not settled "
        f"at a kill: {sum(unsettled) / rounds:.1f} on average, {max(unsettled)} at most"
    )
    assert set(range(rounds * 60)) == set(handled)
    assert doubled <= set().union(*at_kills)
    assert handled.total() - len(handled) <= sum(unsettled)
    assert (0, 0, 0, []) == (status.missing, status.dead, status.held, status.consumers)


def test_zombie_is_told_and_settles_nothing(shop: Shop) -> None:
    """Stopped past its lease and continued: one line, no second settle."""
    shop.send(3)
    gate = shop.folder / "gate"  # its handler must not end before it is stopped
    zombie = shop.start("consume", LEASE="1s", GATE=str(gate))
    eventually(lambda: shop.started() == 1, "its handler runs")
    zombie.send_signal(signal.SIGSTOP)
    heir = shop.start("consume", "-q", LEASE="1s", WORK="0.01")
    eventually(lambda: len(shop.handled()) == 3, "the heir handles all", 30)
    gate.touch()
    zombie.send_signal(signal.SIGCONT)
    eventually(lambda: shop.handled().total() == 4, "the zombie's handler ends")
    for process in (zombie, heir):
        process.send_signal(signal.SIGTERM)
    output, _ = zombie.communicate(timeout=20)
    heir.communicate(timeout=20)
    assert 1 == output.count("taken for dead")
    assert (3, 0) == (shop.status().ledger["handled"], shop.status().missing)


def test_sigterm_waits_for_the_handler_and_two_sigints_do_not(shop: Shop) -> None:
    """SIGTERM lets it finish; the second Ctrl-C hands the message back and says so."""
    shop.send(1)
    consumer = shop.start("consume", WORK="1")
    eventually(lambda: shop.started() == 1, "its handler runs")
    consumer.send_signal(signal.SIGTERM)
    output, _ = consumer.communicate(timeout=20)
    assert (0, 1) == (consumer.returncode, shop.status().ledger["handled"]), output
    shop.send(1)
    consumer, log = shop.start_logged("consume", WORK="30")
    eventually(lambda: shop.started() == 2, "its handler runs")
    consumer.send_signal(signal.SIGINT)
    eventually(lambda: "stopping" in log.read_text(), "it says that it stops")
    consumer.send_signal(signal.SIGINT)
    consumer.wait(20)
    assert (7, 1) == (consumer.returncode, shop.status().waiting), log.read_text()
    assert "1 handed back" in log.read_text()


def test_stop_timeout_hands_back(shop: Shop) -> None:
    """After the stop timeout the handler is ended, its message is handed back, exit code 7."""
    shop.send(1)
    consumer = shop.start("consume", "--stop-timeout", "200ms", WORK="30")
    eventually(lambda: shop.started() == 1, "its handler runs")
    consumer.send_signal(signal.SIGTERM)
    output, _ = consumer.communicate(timeout=20)
    assert (7, 1, 0) == (consumer.returncode, shop.status().waiting, shop.status().missing), output


def test_redis_killed_and_back(own_server: RealServer, tmp_path: Path) -> None:
    """Redis killed under load: one line for its start, one for its end, nothing lost."""
    shop = Shop(tmp_path, own_server.url)
    shop.send(400)
    consumer, log = shop.start_logged("consume", LEASE="2s")
    eventually(lambda: shop.handled().total() > 50, "some are handled")
    own_server.kill()
    eventually(lambda: "connection lost" in log.read_text(), "it notices")
    own_server.start()
    eventually(lambda: len(shop.handled()) == 400, "all are handled", 40)
    eventually(lambda: shop.status().held == 0, "all is settled")
    # One thread may have settled it while the other, which is to say so, still waits to ask again.
    eventually(lambda: "is back after" in log.read_text(), "it says that Redis is back")
    consumer.send_signal(signal.SIGTERM)
    consumer.wait(20)
    output = log.read_text()
    assert (1, 1) == (output.count("connection lost"), output.count("is back after")), output
    assert 0 == shop.status().missing


def test_append_only_file_without_the_last_settle(own_server: RealServer, tmp_path: Path) -> None:
    """Redis starts again from a file that lacks the end: nothing is stuck."""
    shop = Shop(tmp_path, own_server.url)
    shop.send(100)
    consumer = shop.start("consume", "-q", LEASE="1s", WORK="0.02")
    eventually(lambda: shop.handled().total() > 20, "some are handled")
    own_server.kill()
    files = sorted(own_server.folder.rglob("*.aof"), key=lambda p: p.stat().st_size)
    with files[-1].open("r+b") as log:
        log.truncate(files[-1].stat().st_size - 700)  # Redis drops the command that is cut
    own_server.start()
    eventually(lambda: len(shop.handled()) == 100, "all are handled", 40)
    eventually(lambda: not shop.status().held and not shop.status().waiting, "nothing is stuck")
    consumer.send_signal(signal.SIGTERM)
    consumer.communicate(timeout=20)
    assert [] == shop.status().consumers


BROKEN = {
    "noext": ("from flask import Flask\napp = Flask('noext')", 3, 'App "noext" has no RedisQueue'),
    "nohandler": (
        "from flask import Flask\nfrom flask_redis_queue import RedisQueue\n"
        "app = Flask('n')\nRedisQueue(app)",
        3,
        "No handlers. Name their module",
    ),
    "nomodule": ("import nothing_of_this_name", 2, "nothing_of_this_name"),
    "badname": ("1 / 0", 2, "The app could not be imported: ZeroDivisionError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_apps(shop: Shop, name: str) -> None:
    """Each gets its sentence and exit code, and no traceback but the import's own."""
    source, code, said = BROKEN[name]
    (shop.folder / f"{name}.py").write_text(source)
    found, output = shop.run("consume", app=name)
    assert code == found, output
    assert said in output
    assert ("Traceback" in output) == (code == 2)
    assert "flask_redis_queue/" not in output


def test_redis_down_and_wrong_password(shop: Shop, own_server: RealServer) -> None:
    """Redis away at the start: exit 4. A wrong password: exit 5. No password is shown."""
    code, output = shop.run(
        "consume", "--wait-for-redis", "200ms", REDIS_URL="redis://127.0.0.1:1/0"
    )
    assert (4, True) == (code, "refused the connection" in output), output
    own_server.client().config_set("requirepass", "right")
    url = own_server.url.replace("redis://", "redis://:wr0ng@")
    code, output = shop.run("consume", REDIS_URL=url)
    assert (5, True) == (code, 'refused user "default" (password set, not shown)' in output), output
    assert "wr0ng" not in output
    assert "Traceback" not in output


def test_missing_permission(shop: Shop, own_server: RealServer) -> None:
    """A user that may not run a command: exit 5, and the cure."""
    client = own_server.client()
    client.execute_command("ACL", "SETUSER", "shop", "on", ">pw", "~*", "+@all", "-blmove")
    url = own_server.url.replace("redis://", "redis://shop:pw@")
    code, output = shop.run("consume", REDIS_URL=url)
    assert 5 == code, output
    assert "ACL SETUSER shop +blmove" in output


def test_operator_commands(shop: Shop, redis_url: str) -> None:
    """status, dead list, show and replay; burst ends with 6 where letters died."""
    with shop.app.app_context():
        shop.queue.send({"no": "goods"}, queue="other")
    shop.send(1)
    code, output = shop.run("queue", "status", "--json")
    assert (0, 1) == (code, json.loads(output)[0]["waiting"])
    redis.Redis.from_url(redis_url).lpush(QUEUE, b'{"quantity": 1}')
    code, output = shop.run("consume", "-b")
    assert 6 == code, output
    assert "1 handled" in output
    code, output = shop.run("queue", "dead", "list", "--json")
    (letter,) = json.loads(output)
    assert ("invalid", '{"quantity": 1}') == (letter["cause"], letter["raw"])
    assert "Missing data" in shop.run("queue", "dead", "list")[1]
    assert "15 bytes" in shop.run("queue", "dead", "show", letter["id"])[1]
    assert "1 back on" in shop.run("queue", "dead", "replay", letter["id"])[1]
    assert 1 == shop.status().waiting
