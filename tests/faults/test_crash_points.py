"""A process is killed at each point in the life of a message, and what comes of it is known.

docs/failures.md has the same table in words.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from flask_redis_queue.broker import Broker
from flask_redis_queue.clients import make_pool
from flask_redis_queue.config import load
from flask_redis_queue.inspector import QueueStatus
from flask_redis_queue.subscription import Subscription

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from .crashing import BYSTANDER, FAILS_ONCE, FINE, REJECTED, SETTINGS, add_handler

ROOT = Path(__file__).resolve().parents[2]


class Outcome(NamedTuple):
    """What a message has seen in the end: runs, effects, and whether it is a dead letter."""

    runs: int
    effects: int
    dead: int = 0


class Row(NamedTuple):
    """What becomes of a message whose consumer dies at a point, alone and as a worker of ``-p``."""

    kind: int
    alone: Outcome
    supervised: Outcome
    options: tuple[str, ...] = ()

    @staticmethod
    def point(name: str) -> str:
        """:return: The point of a name: to settle a failure is to settle."""
        return re.sub("(settling).*", r"\1", name)


ONCE, AGAIN, TWICE = Outcome(1, 1), Outcome(2, 1), Outcome(2, 2)
POINTS = {
    "before entering": Row(FINE, ONCE, ONCE),
    "after entering": Row(FINE, ONCE, ONCE),
    "after taking": Row(FINE, ONCE, ONCE),
    "before running": Row(FINE, ONCE, ONCE),
    "before the effect": Row(FINE, AGAIN, AGAIN),
    "after the effect": Row(FINE, TWICE, TWICE),
    "before noting": Row(FINE, TWICE, TWICE),
    "after noting": Row(FINE, TWICE, ONCE),
    "before settling": Row(FINE, TWICE, ONCE),
    "after settling": Row(FINE, ONCE, ONCE),
    "before leaving": Row(FINE, ONCE, ONCE, ("--max-messages", "1")),
    "after leaving": Row(FINE, ONCE, ONCE, ("--max-messages", "1")),
    # A failure that was not settled is forgotten: the same run comes again.
    "before settling a failure": Row(FAILS_ONCE, Outcome(3, 1), Outcome(3, 1)),
    "after settling a failure": Row(FAILS_ONCE, Outcome(2, 1), Outcome(2, 1)),
    "before settling a dead letter": Row(REJECTED, Outcome(2, 0, 1), Outcome(2, 0, 1)),
    "after settling a dead letter": Row(REJECTED, Outcome(1, 0, 1), Outcome(1, 0, 1)),
}


class Scene:
    """A queue, the processes that are to die, and what handlers noted."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        self.app, self.queue = make_app(url, **SETTINGS)
        add_handler(self.queue, folder, lambda name: None)
        (folder / "ledger").touch()

    def send(self, *kinds: int) -> None:
        """Send one message of each kind, in this order."""
        with self.app.app_context():
            self.queue.send_many(StockSupplied, [{**GOODS, "quantity": kind} for kind in kinds])

    def start(self, points: str, *command: str) -> subprocess.Popen[bytes]:
        """:return: A Python process whose app kills it at each point."""
        environ = {"REDIS_URL": self._url, "MARKS": str(self._folder), "CRASH": points}
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**os.environ, **environ},
                stdout=log,
                stderr=log,
            )

    def consume(self, points: str, *options: str) -> subprocess.Popen[bytes]:
        """:return: A ``flask consume`` that kills itself, or a worker of its, at each point."""
        app = "tests.faults.crashing"
        return self.start(points, "-m", "flask", "--app", app, "consume", "-q", *options)

    def has_reached(self, point: str) -> bool:
        """:return: Whether a process has died there."""
        return (self._folder / point).exists()

    def said(self) -> str:
        """:return: What the processes printed."""
        return (self._folder / "log").read_text(errors="replace")

    def status(self) -> QueueStatus:
        """:return: The queue at this moment."""
        found: QueueStatus = self.app.extensions["redis_queue"].inspector.status(QUEUE)
        return found

    def inherit(self) -> None:
        """Handle what is left, in this process, until nobody holds anything."""
        heir = self.queue.consumer(self.app, name="heir", max_seconds=60)
        thread = threading.Thread(target=heir.run)
        thread.start()
        eventually(lambda: self.is_done(1), "all is done")
        heir.stop()
        thread.join(20)

    def is_done(self, consumers: int) -> bool:
        """:return: Whether nothing is left to do, and just so many consumers are there."""
        now = self.status()
        left = (now.waiting, now.held, now.delayed, len(now.consumers))
        return left == (0, 0, 0, consumers)

    def outcome(self, kind: int) -> Outcome:
        """:return: What the message of a kind has seen."""
        lines = [line.split() for line in (self._folder / "ledger").read_text().splitlines()]
        seen = Counter(what for what, one, _ in lines if int(one) == kind)
        dead = self.app.extensions["redis_queue"].inspector.dead_letters(QUEUE)
        letters = [one for one in dead if f'"quantity":{kind}'.encode() in one.delivery.raw]
        return Outcome(seen["run"], seen["effect"], len(letters))

    def balances(self) -> None:
        """Assert that nothing is missing, and that each message has one end in the ledger."""
        ledger = self.status().ledger
        assert 0 == self.status().missing
        assert ledger["sent"] == ledger.get("handled", 0) + ledger.get("died", 0)


@pytest.fixture
def scene(tmp_path: Path, redis_url: str) -> Scene:
    """An empty queue."""
    return Scene(tmp_path, redis_url)


@pytest.mark.parametrize("name", POINTS)
def test_a_consumer_dies(scene: Scene, name: str) -> None:
    """Alone: what was not settled comes again when its lease has lapsed, and nothing else does."""
    row = POINTS[name]
    scene.send(row.kind, BYSTANDER)
    victim = scene.consume(row.point(name), *row.options)
    assert -signal.SIGKILL == victim.wait(20)
    scene.inherit()
    assert (row.alone, ONCE) == (scene.outcome(row.kind), scene.outcome(BYSTANDER))
    scene.balances()


@pytest.mark.parametrize("name", POINTS)
def test_a_worker_dies(scene: Scene, name: str) -> None:
    """Under ``-p``: what it had done is settled, and the rest comes again at once."""
    row = POINTS[name]
    scene.send(row.kind)
    consumer = scene.consume(row.point(name), "-p", "2", *row.options)
    # The other worker must not come to the point first, with another message.
    eventually(lambda: scene.has_reached(row.point(name)), "a worker has died")
    scene.send(BYSTANDER)
    # The dead one is a consumer, too, until its supervisor has heard of it; a stop before would
    # make its end the end of the command.
    eventually(lambda: "was ended by SIGKILL" in scene.said(), "its supervisor has heard of it")
    eventually(lambda: scene.is_done(2), "all is done, and both workers are there")
    consumer.send_signal(signal.SIGTERM)
    assert 0 == consumer.wait(20)
    assert (row.supervised, ONCE) == (scene.outcome(row.kind), scene.outcome(BYSTANDER))
    scene.balances()


@pytest.mark.parametrize("point", ["before freeing", "after freeing"])
def test_a_supervisor_dies_while_it_frees(scene: Scene, point: str) -> None:
    """A worker dies, and its supervisor with it: what was not freed comes again by its lease."""
    scene.send(FINE)
    consumer = scene.consume(f"before the effect,{point}", "-p", "2")
    eventually(lambda: scene.has_reached("before the effect"), "a worker has died")
    scene.send(BYSTANDER)
    assert -signal.SIGKILL == consumer.wait(20)
    scene.inherit()
    assert (AGAIN, ONCE) == (scene.outcome(FINE), scene.outcome(BYSTANDER))
    scene.balances()


@pytest.mark.parametrize("point", ["before burying", "after burying"])
def test_a_consumer_dies_while_it_buries_another(scene: Scene, redis_url: str, point: str) -> None:
    """Burying is all or nothing: the next one buries both, or finds it done."""
    scene.send(FINE, BYSTANDER)
    config = load({"REDIS_URL": redis_url, **SETTINGS}, {})
    ghost = Subscription(broker := Broker(make_pool(config, 5), config), QUEUE, "g", broker.pool)
    ghost.enter()
    ghost.turn(1)
    redis.Redis.from_url(redis_url).zadd(f"{{{QUEUE}}}:leases", {ghost.consumer: 1})
    assert -signal.SIGKILL == scene.consume(point).wait(20)
    scene.inherit()
    assert (ONCE, ONCE) == (scene.outcome(FINE), scene.outcome(BYSTANDER))
    scene.balances()


@pytest.mark.parametrize(("point", "stored"), [("before sending", 0), ("after sending", 1)])
def test_a_sender_dies(scene: Scene, point: str, stored: int) -> None:
    """Sent again with the same ``id=``, by whoever repeats the work, it is stored once."""
    code = "from tests.faults.crashing import send; send('order-1')"
    assert -signal.SIGKILL == scene.start(point, "-c", code).wait(20)
    assert stored == scene.status().waiting
    with scene.app.app_context():
        again = scene.queue.send(StockSupplied, {**GOODS, "quantity": FINE}, id="order-1")
    assert (1, bool(stored)) == (scene.status().waiting, again.duplicate)


def test_an_operator_dies(scene: Scene) -> None:
    """A replay that is killed half-way: each is back on the queue or a dead letter still."""
    scene.send(*[REJECTED] * 500)  # at its rate, ten seconds to kill it in
    scene.queue.consumer(scene.app, burst=True).run()
    replay = ["queue", "dead", "replay", "--all", "--rate", "50"]
    operator = scene.start("", "-m", "flask", "--app", "tests.faults.crashing", *replay)
    eventually(lambda: scene.status().waiting >= 5, "some are back")
    operator.kill()
    operator.wait()
    now = scene.status()
    assert (500, 0) == (now.waiting + now.dead, now.missing)
    assert now.dead
