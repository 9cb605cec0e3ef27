"""Worker processes that crash, hang and swell, under ``flask consume -p``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually

ROOT = Path(__file__).resolve().parents[2]
APP = """
import ctypes, os, signal, sys, time
from flask import Flask
from flask_redis_queue import RedisQueue
from tests.apps import StockSupplied

app = Flask("shop")
app.config["REDIS_QUEUE_LEASE"] = "15s"
app.config["REDIS_QUEUE_MAX_DELIVERIES"] = 3
queue = RedisQueue(app)
log = open(os.environ["LEDGER"], "ab", buffering=0)
KIND = os.environ.get("KIND", "")

@queue.handler(StockSupplied, timeout="2s" if KIND == "hang" else None, retry=2)
def handle(supplied):
    if supplied["quantity"] == 500:
        if KIND == "exit":
            os._exit(3)
        if KIND == "segfault":
            ctypes.string_at(0)
        if KIND == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if KIND == "hang":
            ctypes.CDLL(None).sleep(60)  # where nothing reaches it
        if KIND == "memory":
            hoard = []
            while True:
                hoard.append(bytearray(b"x" * 2**20))
                time.sleep(0.0005)
    log.write(b"%d %d\\n" % (supplied["quantity"], os.getpid()))
"""


class Shop:
    """An app in a folder, and a supervised consumer of it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.ledger, self.log = folder, folder / "ledger", folder / "output"
        self.ledger.touch()
        (folder / "shop.py").write_text(APP)
        self.app, self.queue = make_app(url)
        self.environ = {**os.environ, "REDIS_URL": url, "LEDGER": str(self.ledger)}
        self.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{folder}"

    def start(self, *arguments: str, kind: str = "") -> subprocess.Popen[bytes]:
        """:return: A running ``flask consume``."""
        with self.log.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "flask", "--app", "shop", "consume", *arguments],
                cwd=self.folder,
                env={**self.environ, "KIND": kind},
                stdout=out,
                stderr=out,
            )

    def send(self, count: int) -> None:
        """Send numbered messages."""
        with self.app.app_context():
            payloads = [{**GOODS, "quantity": n} for n in range(1, count + 1)]
            self.queue.send_many(StockSupplied, payloads)

    def status(self) -> Any:
        """:return: The queue at this moment."""
        return self.app.extensions["redis_queue"].inspector.status(QUEUE)

    def handled(self) -> Counter[int]:
        """:return: How often each number was handled."""
        return Counter(number for number, _ in self.lines())

    def lines(self) -> list[tuple[int, int]]:
        """:return: Of each whole line in the ledger the number, and the process that handled it."""
        whole = self.ledger.read_text().rpartition("\n")[0]
        return [(int(number), int(pid)) for number, pid in map(str.split, whole.splitlines())]

    def is_done(self) -> bool:
        """:return: Whether nothing is left to do."""
        status = self.status()
        return not (status.waiting or status.held or status.delayed)


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """An app on an empty server."""
    return Shop(tmp_path, redis_url)


@pytest.mark.parametrize("kind", ["exit", "segfault", "kill", "hang", "memory"])
def test_one_bad_message_among_a_thousand(shop: Shop, kind: str) -> None:
    """The healthy ones are handled once each, the bad one ends as a dead letter, work goes on."""
    shop.send(1000)
    limit = ("--max-memory", "300M") if kind == "memory" else ()
    consumer = shop.start("-p", "2", "-q", *limit, kind=kind)
    eventually(lambda: shop.is_done() and shop.status().dead, "all is done", 60)
    assert consumer.poll() is None
    consumer.send_signal(signal.SIGTERM)
    assert 0 == consumer.wait(20), shop.log.read_text()
    assert dict.fromkeys(set(range(1, 1001)) - {500}, 1) == dict(shop.handled())
    (dead,) = shop.app.extensions["redis_queue"].inspector.dead_letters(QUEUE)
    assert b'"quantity":500' in dead.delivery.raw
    assert ("TimeoutError" if kind == "hang" else "took its consumer down") in dead.meta["why"]
    status = shop.status()
    assert (0, [], 999) == (status.missing, status.consumers, status.ledger["handled"])


def test_a_killed_worker_is_replaced_and_doubles_nothing(shop: Shop) -> None:
    """kill -9 again and again: what was done is settled by the supervisor, the rest goes on."""
    shop.send(4000)
    consumer = shop.start("-p", "2", "-q")
    kills = 0
    while not shop.is_done():
        before = shop.handled().total()
        eventually(lambda b=before: shop.is_done() or shop.handled().total() > b + 100, "progress")
        lines = shop.lines()
        if lines and kills < 15:
            pid = lines[-1][1]
            if _is_child(pid, consumer.pid):
                os.kill(pid, signal.SIGKILL)
                kills += 1
    eventually(lambda: shop.log.read_text().count("by SIGKILL") == kills, "each was noticed")
    eventually(lambda: len(shop.status().consumers) == 2, "the last one has been replaced")
    consumer.send_signal(signal.SIGTERM)
    assert 0 == consumer.wait(20), shop.log.read_text()
    doubled = shop.handled().total() - len(shop.handled())
    print(f"{kills} kills, 4,000 messages, {doubled} doubled")
    assert set(range(1, 4001)) == set(shop.handled())
    # A kill may hit between a handler's last line and the note that it has ended.
    assert doubled <= kills
    assert (0, 0) == (shop.status().missing, shop.status().dead)


def _is_child(pid: int, parent: int) -> bool:
    try:
        return f"PPid:\t{parent}\n" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_workers_are_recycled(shop: Shop) -> None:
    """With -p, --max-messages ends a worker and another takes its place."""
    shop.send(300)
    consumer = shop.start("-p", "2", "-q", "--max-messages", "50")
    eventually(shop.is_done, "all is done", 40)
    consumer.send_signal(signal.SIGTERM)
    assert 0 == consumer.wait(20)
    assert len({pid for _, pid in shop.lines()}) >= 6
    assert dict.fromkeys(range(1, 301), 1) == dict(shop.handled())


def test_burst_ends_when_all_workers_do(shop: Shop) -> None:
    """With -b no worker is started again; the table names both, and the exit code is theirs."""
    shop.send(100)
    consumer = shop.start("-p", "2", "-b")
    assert 0 == consumer.wait(30)
    output = shop.log.read_text()
    assert "2 processes with 1 thread each" in output
    assert 100 == sum(int(n) for n in re.findall(r"(\d+) handled ·", output)), output
    assert 1 == output.count("ready in")


def test_workers_end_with_their_supervisor(shop: Shop) -> None:
    """kill -9 of the supervisor: its workers finish what they do, and leave."""
    consumer = shop.start("-p", "2")
    eventually(lambda: b"ready in" in shop.log.read_bytes(), "they consume")
    assert 2 == len(shop.status().consumers)
    consumer.kill()
    consumer.wait()
    eventually(lambda: not shop.status().consumers, "they have left")


def test_a_broken_app_ends_the_supervisor(shop: Shop) -> None:
    """What would end every worker ends the command, with its exit code and no loop."""
    (shop.folder / "shop.py").write_text("import nowhere\n")
    consumer = shop.start("-p", "2")
    assert 2 == consumer.wait(20)
    assert 1 == shop.log.read_text().count("No module named 'nowhere'\n\n")


def test_two_interrupts_hand_back_at_once(shop: Shop) -> None:
    """The second SIGINT reaches the workers' handlers."""
    (shop.folder / "shop.py").write_text(
        APP.replace(
            "    log.write(", "    log.write(b'0 0\\n')\n    time.sleep(60)\n    log.write("
        )
    )
    shop.send(2)
    consumer = shop.start("-p", "2", "-q")
    eventually(lambda: len(shop.lines()) == 2, "both run")
    consumer.send_signal(signal.SIGINT)
    eventually(lambda: shop.log.read_bytes().count(b"stopping") == 2, "both have heard it")
    consumer.send_signal(signal.SIGINT)
    assert 7 == consumer.wait(20), shop.log.read_text()
    assert (2, 0, 0) == (shop.status().waiting, shop.status().held, shop.status().missing)
