"""Rows 7, 8, 12 and 15: hosts that vanish, zombies, clocks that are wrong, slow handlers."""

from __future__ import annotations

import os
import time
from datetime import datetime

import pytest

from flask_redis_queue import broker as scripts

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from ..proxy import Proxy
from .crew import LEASE
from .fleet import Fleet
from .ledger import APPLIED, READY, STARTED
from .workers import shift_clock

HOUR = 3600.0
FACTOR = 5
"""A goal is asserted at so many times its value, for machines differ."""


def vanish(fleet: Fleet, name: str, proxy: Proxy) -> None:
    """Let a consumer's host vanish: nothing passes any more, and no connection is closed."""
    proxy.hang()
    fleet.stop(name)  # else it would close its connections, which a host that is gone cannot


def come_back(fleet: Fleet, name: str, proxy: Proxy) -> None:
    """End :func:`vanish`."""
    proxy.accept()
    fleet.resume(name)


@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "idle"])
def test_a_host_vanishes(fleet: Fleet, is_busy: bool) -> None:
    """What it held is run elsewhere within lease + 1 s, also what reached it while it waited."""
    with Proxy(fleet.server.port) as proxy:
        doomed = fleet.start("consume", url=proxy.url, work=600.0 if is_busy else 0.001)
        eventually(lambda: fleet.marks(READY), "it is ready")
        if is_busy:
            fleet.send(1)
            eventually(lambda: fleet.marks(STARTED), "its handler runs")
        vanish(fleet, doomed.name, proxy)
        gone = time.monotonic()
        if not is_busy:
            fleet.send(1)
        fleet.start("consume", "cheir")
        goal = LEASE + 1
        eventually(lambda: fleet.marks(APPLIED, "cheir"), "another runs it", FACTOR * goal)
        took = time.monotonic() - gone
        assert 0 == len(fleet.marks(APPLIED, doomed.name))
        print(f"rerun after {took:.2f}s, lease {LEASE}s, goal {goal}s")
        fleet.kill(doomed.name)
        verdict = fleet.finish()
    assert (True, 0) == (verdict.is_green, verdict.doubled.total()), verdict


def test_zombies_again_and_again(fleet: Fleet) -> None:
    """Each time: stopped past its lease in mid-handler, continued; one line each, one settle."""
    rounds = int(os.environ.get("ZOMBIES", "2"))
    gate = fleet.folder / "gate"  # its handler must not end before it is stopped
    zombie = fleet.start("consume", "czombie", gate=str(gate))
    for number in range(rounds):
        gate.unlink(missing_ok=True)
        fleet.send(1)
        eventually(lambda n=number: len(fleet.marks(STARTED, "czombie")) > n, "its handler runs")
        fleet.stop(zombie.name)
        heir = fleet.start("consume", f"cheir{number}")
        eventually(lambda n=heir.name: fleet.marks(APPLIED, n), "the heir handles it", 30)
        fleet.ask_to_end(heir.name)
        fleet.wait_for_end(heir.name)
        gate.touch()
        fleet.resume(zombie.name)
        eventually(lambda n=number: len(fleet.marks(APPLIED, "czombie")) > n, "the zombie ends it")
        told = f"{number + 1} lines"
        eventually(
            lambda n=number: fleet.output(["czombie"]).count("taken for dead") == n + 1, told
        )
    handled = fleet.inspector().status(QUEUE).ledger["handled"]
    verdict = fleet.finish()
    assert (rounds, rounds) == (handled, verdict.doubled.total())
    assert verdict.is_green, verdict


def test_clients_whose_clocks_are_wrong(fleet: Fleet) -> None:
    """Producers and consumers an hour ahead and behind: no run too many, no lease is misjudged."""
    for skew in (HOUR, -HOUR):
        fleet.start("produce", most=300, skew=skew)
        fleet.start("consume", skew=skew)
    eventually(lambda: len(set(fleet.marks(APPLIED))) == 600, "all is handled", 60)
    verdict = fleet.finish()
    assert verdict.is_green, verdict
    assert verdict.doubled.total() <= verdict.at_risk
    assert 2 == len({id.partition("-")[0] for id in fleet.marks(APPLIED)})


@pytest.mark.parametrize("skew", [HOUR, -HOUR])
def test_delay_and_expiry_go_by_the_servers_clock(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    """A sender an hour off: nothing expires early, nothing late, and no delay is longer."""
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, getattr(time, name))  # undone after the test
    monkeypatch.setattr("flask_redis_queue.publisher.datetime", datetime)
    shift_clock(skew)
    app, queue = make_app(redis_url)
    got: list[int] = []
    queue.handler(StockSupplied)(lambda supplied: got.append(supplied["quantity"]))
    with app.app_context():
        queue.send(StockSupplied, {**GOODS, "quantity": 1}, expires="10m")
        queue.send(StockSupplied, {**GOODS, "quantity": 2}, expires="1ms")
        queue.send(StockSupplied, {**GOODS, "quantity": 3}, delay="1ms")
    time.sleep(0.01)  # the server's clock must pass the due time; it gives no event
    tally = queue.consumer(app, max_messages=3, max_seconds=20).run()
    assert (2, 1, {1, 3}) == (tally.handled, tally.expired, set(got))


def jump(fleet: Fleet, seconds: float) -> None:
    """Let the server's clock jump; only the leases tell, so that it is they that are moved."""
    script = (
        "for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do "
        "redis.call('ZINCRBY', KEYS[1], -ARGV[1], name) end"
    )
    fleet.client().eval(script, 1, f"{{{QUEUE}}}:leases", round(seconds * 1000))


def incarnations(fleet: Fleet) -> set[str]:
    """:return: All that the server takes for alive."""
    return {name.decode() for name in fleet.client().zrange(f"{{{QUEUE}}}:leases", 0, -1)}


def are_renewed(fleet: Fleet) -> bool:
    """:return: Whether every lease ends in the future, and no later than it may."""
    client = fleet.client()
    leases = client.zrange(f"{{{QUEUE}}}:leases", 0, -1, withscores=True)
    now = client.time()[0]
    return all(now <= end / 1000 <= now + 1 + LEASE for _, end in leases)


@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "idle"])
def test_the_servers_clock_jumps_and_buries_nobody(fleet: Fleet, is_busy: bool) -> None:
    """An hour ahead and back, ten times: the living stay, whether handlers run or they wait.

    A consumer in a handler makes no turn: there the beats alone must find out.
    """
    fleet.settings["REDIS_QUEUE_PREFETCH"] = 1
    gate = fleet.folder / "gate"
    names = [fleet.start("consume", gate=str(gate) if is_busy else "").name for _ in range(3)]
    eventually(lambda: len(fleet.marks(READY)) == 3, "all are ready")
    if is_busy:
        fleet.send(3)
        eventually(lambda: len(fleet.marks(STARTED)) == 3, "all are in a handler")
    before = incarnations(fleet)
    for number in range(20):
        jump(fleet, HOUR if number % 2 == 0 else -HOUR)
        eventually(lambda: are_renewed(fleet), f"all leases are renewed after jump {number}")
        assert before == incarnations(fleet), (number, fleet.output(names))
    gate.touch()
    fleet.send(30)
    eventually(lambda: len(set(fleet.marks(APPLIED))) >= 30, "work goes on")
    buried = fleet.inspector().status(QUEUE).ledger.get("buried", 0)
    verdict = fleet.finish()
    print(f"20 jumps, {buried} buried, {verdict}")
    assert (True, 0, 0) == (verdict.is_green, buried, verdict.doubled.total()), verdict
    assert "taken for dead" not in fleet.output(names)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "back"])
def test_the_servers_clock_jumps_when_one_has_died(fleet: Fleet, seconds: float) -> None:
    """What a dead consumer held is run elsewhere within lease + 1 s, whatever the clock did."""
    doomed = fleet.start("consume", work=600.0)
    fleet.send(1)
    eventually(lambda: fleet.marks(STARTED), "its handler runs")
    fleet.start("consume", "cheir")
    eventually(lambda: fleet.marks(READY, "cheir"), "the heir is ready")
    fleet.kill(doomed.name)
    jump(fleet, seconds)
    jumped, goal = time.monotonic(), LEASE + 1
    eventually(lambda: fleet.marks(APPLIED, "cheir"), "the heir runs it", FACTOR * goal)
    print(f"clock {seconds:+.0f}s: rerun after {time.monotonic() - jumped:.2f}s, goal {goal}s")
    verdict = fleet.finish()
    assert (True, 0) == (verdict.is_green, verdict.doubled.total()), verdict


def test_a_slow_handler_keeps_its_lease(fleet: Fleet) -> None:
    """A handler of three leases runs once, while another consumer has nothing to do."""
    fleet.start("consume", "cslow", work=3 * LEASE)
    fleet.send(1)
    eventually(lambda: fleet.marks(STARTED, "cslow"), "it runs")
    fleet.start("consume", "cidle")
    eventually(lambda: fleet.marks(APPLIED, "cslow"), "it ends", 60)
    verdict = fleet.finish()
    assert 1 == len(fleet.marks(APPLIED)), verdict
    assert verdict.is_green, verdict
    assert "lease" not in fleet.output(["cslow", "cidle"])


@pytest.mark.parametrize("script", ["TURN", "BEAT"])
def test_taken_for_dead_while_it_starts(fleet: Fleet, script: str) -> None:
    """One that was silent for its lease before it was ready enters anew, as a later one does."""
    client, digest = fleet.client(), getattr(scripts, script).digest.encode()
    buried: list[int] = []

    def bury(command: bytes) -> bool:
        if digest in command and not buried:
            keys = client.keys(f"{{{QUEUE}}}:held:*")  # what another consumer's burying deletes
            buried.append(client.delete(*keys, f"{{{QUEUE}}}:leases"))
        return False  # nothing is cut

    fleet.proxy.cut_request(bury)
    worker = fleet.start("consume")
    states: list[str] = []

    def is_decided() -> bool:
        states.append(fleet.forker.state(worker.pid))
        return states[-1] != "running" or bool(fleet.marks(READY, worker.name))

    eventually(is_decided, "it is ready, or has ended")
    assert [2] == buried
    assert "running" == states[-1], fleet.output([worker.name])
