"""Row 14: restarts under load, and SIGTERM for a consumer that is process 1 of its container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from .fleet import Fleet
from .forker import ROOT
from .ledger import APPLIED, READY, STARTED

ROLLING = int(os.environ.get("ROLLING", "200"))
PATIENT = "30s"
"""A lease where nobody dies: a shorter one may lapse on a busy machine, and rightly double."""
APP = """
import os, time
from flask import Flask
from flask_redis_queue import RedisQueue
from tests.apps import StockSupplied
def create_app():
    app = Flask("shop")
    queue = RedisQueue(app)
    @queue.handler(StockSupplied)
    def handle(supplied):
        with open(os.environ["STARTED"], "a") as log:
            log.write(f"{os.getpid()}\\n")
        while not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)
    return app
"""


@pytest.mark.slow
def test_rolling_restarts_under_load(fleet: Fleet) -> None:
    """SIGTERM after SIGTERM during a drain: each exits with 0; nothing is lost, nothing doubled."""
    fleet.settings["REDIS_QUEUE_LEASE"] = PATIENT
    for _ in range(2):
        fleet.start("produce", pause=0.0)
    running = [fleet.start("consume").name for _ in range(3)]
    started, leaving = time.monotonic(), []
    for _ in range(ROLLING):
        running.append(fleet.start("consume").name)
        oldest = running.pop(0)
        eventually(lambda n=oldest: fleet.marks(READY, n), "the oldest works", 60)
        fleet.ask_to_end(oldest)
        leaving.append(oldest)
        if len(leaving) > 3:  # some overlap, as in a cluster that replaces several at once
            assert "ended 0" == fleet.wait_for_end(leaving[0]), fleet.output([leaving[0]])
            leaving.pop(0)
    took = time.monotonic() - started
    for name in leaving:
        assert "ended 0" == fleet.wait_for_end(name), fleet.output([name])
    verdict = fleet.finish()
    print(f"{ROLLING} restarts in {took:.0f}s; {verdict}")
    assert verdict.is_green, verdict
    assert 0 == verdict.doubled.total()
    assert 0 == fleet.inspector().status(QUEUE).missing


def test_one_consumer_after_the_other_keeps_the_order(fleet: Fleet) -> None:
    """What a consumer hands back when it is stopped comes first to the next, in its order."""
    fleet.settings["REDIS_QUEUE_LEASE"] = PATIENT
    fleet.send(300)
    for number in range(10):
        fleet.send(11)  # however much the one before it has handled, there is work for this one
        name = fleet.start("consume", f"c{number}").name
        eventually(lambda n=name: len(fleet.marks(APPLIED, n)) > 10, "it works")
        fleet.ask_to_end(name)
        assert "ended 0" == fleet.wait_for_end(name)
    fleet.start("consume", "clast")
    eventually(lambda: len(fleet.marks(APPLIED)) == 410, "the rest is handled")
    verdict = fleet.finish()
    assert (True, 0, 0) == (verdict.is_green, verdict.doubled.total(), verdict.disorder), verdict


def test_sigterm_at_any_moment_of_its_start(fleet: Fleet) -> None:
    """It ends by the signal before it listens, or with 0 after, and holds nothing then."""
    fleet.send(20)
    ends = []
    for number in range(20):
        name = fleet.start("consume").name
        time.sleep(number * 0.003)  # an arbitrary moment is the point
        fleet.ask_to_end(name)
        ends.append(fleet.wait_for_end(name))
    assert {"ended 0", f"ended -{signal.SIGTERM.value}"} >= set(ends), fleet.output(ends)
    fleet.start("consume")
    verdict = fleet.finish()
    assert (True, 0) == (verdict.is_green, verdict.doubled.total()), verdict


def test_a_second_signal_in_a_handler(fleet: Fleet) -> None:
    """SIGTERM waits for the handler; one more SIGTERM changes nothing; no effect is doubled."""
    gate = fleet.folder / "gate"
    name = fleet.start("consume", gate=str(gate)).name
    fleet.send(3)
    eventually(lambda: fleet.marks(STARTED), "its handler runs")
    fleet.ask_to_end(name)
    eventually(lambda: "stopping" in fleet.output([name]), "it has heard it")
    fleet.ask_to_end(name)
    gate.touch()
    assert "ended 0" == fleet.wait_for_end(name)
    assert (1, 2) == (len(fleet.marks(APPLIED)), fleet.inspector().status(QUEUE).waiting)
    fleet.start("consume")
    verdict = fleet.finish()
    assert (True, 0) == (verdict.is_green, verdict.doubled.total()), verdict


def test_as_process_1(tmp_path: Path, redis_url: str) -> None:
    """The kernel gives process 1 no default for SIGTERM: it stops all the same, handler first."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("no process namespace here: it needs root and unshare")
    namespace = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no process namespace here: unshare is not allowed")
    (tmp_path / "shop.py").write_text(APP)
    log, gate, out = tmp_path / "started", tmp_path / "gate", tmp_path / "output"
    environ = {**os.environ, "REDIS_URL": redis_url, "STARTED": str(log), "GATE": str(gate)}
    environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{tmp_path}"
    app, queue = make_app(redis_url)
    with app.app_context():
        queue.send_many(StockSupplied, [GOODS] * 3)
    with out.open("wb") as file:
        process = subprocess.Popen(
            [*namespace, sys.executable, "-m", "flask", "--app", "shop", "consume"],
            cwd=tmp_path,
            env=environ,
            stdout=file,
            stderr=file,
        )
    eventually(lambda: log.exists() and log.read_text(), "its handler runs")
    assert "1\n" == log.read_text()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    eventually(lambda: "stopping" in out.read_text(), "it has heard it")
    gate.touch()
    process.wait(30)
    output = out.read_text()
    status = app.extensions["redis_queue"].inspector.status(QUEUE)
    assert (0, 2, 0) == (process.returncode, status.waiting, status.missing), output
    assert "1 handled" in output
