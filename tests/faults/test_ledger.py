"""The checker itself: each kind of harm is seen, and what the faults account for is not harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from . import ledger
from .forker import ROOT
from .ledger import ACKNOWLEDGED, APPLIED, ATTEMPTED, READY, STARTED, UNSETTLED, Pen, Verdict


def verdict(folder: Path, *written: tuple[str, str], residue: tuple[str, ...] = ()) -> Verdict:
    """:return: What the checker says of a ledger; each line is who wrote, and what."""
    for name, line in written:
        pen = Pen(folder, name)
        pen.write(*line.split())
        pen.close()
    return ledger.judge(ledger.read(folder), dead={"p-dead"}, residue=residue)


def sent(*ids: str) -> list[tuple[str, str]]:
    """:return: The lines of a producer for what it sent."""
    return [("p", f"{mark} {id}") for id in ids for mark in (ATTEMPTED, ACKNOWLEDGED)]


def test_green(tmp_path: Path) -> None:
    """Applied once, or a dead letter: nothing to say."""
    found = verdict(tmp_path, *sent("p-1", "p-dead"), ("c1", f"{APPLIED} p-1"))
    assert (True, 2, 1, 0) == (found.is_green, found.acknowledged, found.applied, found.disorder)


def test_lost_ghost_and_residue(tmp_path: Path) -> None:
    """Acknowledged and gone, applied and never sent, never acknowledged, left in Redis."""
    lines = [*sent("p-1"), ("p", f"{ATTEMPTED} p-2"), ("c1", f"{APPLIED} ghost-1")]
    found = verdict(tmp_path, *lines, residue=("{q}:held:c1",))
    assert ["p-1"] == found.lost
    assert ["ghost-1"] == found.ghosts
    assert ["p-2"] == found.unacknowledged
    assert ["{q}:held:c1"] == found.residue
    assert "RED" in str(found)


def test_each_harm_alone_is_red(tmp_path: Path) -> None:
    """No kind of harm hides behind the others."""
    cases = {
        "lost": sent("p-1"),
        "ghost": [("c1", f"{APPLIED} ghost-1")],
        "doubled": [*sent("p-1"), *[("c1", f"{APPLIED} p-1")] * 2],
        "unacknowledged": [("p", f"{ATTEMPTED} p-1")],
    }
    for name, written in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        assert not verdict(folder, *written).is_green, name
    assert not verdict(tmp_path, residue=("key",)).is_green


def test_doubled_needs_a_hurt_consumer(tmp_path: Path) -> None:
    """One loss allows one more effect of that message, whether one or both of us tell of it."""
    twice = [("c1", f"{APPLIED} p-1"), ("c2", f"{APPLIED} p-1")]
    told = [("witness", f"{UNSETTLED} p-1 c1-aa"), ("c1", f"{UNSETTLED} p-1")]
    found = verdict(tmp_path, *sent("p-1", "p-2"), *twice, ("c2", f"{APPLIED} p-2"), *told)
    assert (True, 1, 1) == (found.is_green, found.at_risk, found.doubled.total())
    found = verdict(tmp_path, ("c3", f"{APPLIED} p-1"))
    assert (["p-1"], Counter({"p-1": 2})) == (found.unexplained, found.doubled)
    found = verdict(tmp_path, ("witness", f"{UNSETTLED} p-1 c2-bb"))
    assert [] == found.unexplained
    found = verdict(tmp_path, ("c3", f"{APPLIED} p-2"))
    assert ["p-2"] == found.unexplained


def test_order_of_one_consumer(tmp_path: Path) -> None:
    """A newer message before an older one of the same producer is counted, a rerun is not."""
    order = ("a-0", "b-0", "a-2", "a-0", "a-1", "b-1")
    found = verdict(tmp_path, *sent(*order), *[("c1", f"{APPLIED} {id}") for id in order])
    assert 1 == found.disorder


def test_residue(redis_url: str) -> None:
    """Only the ledger, and keys that end by themselves, may stay."""
    client = redis.Redis.from_url(redis_url)
    client.hset(f"{{{QUEUE}}}:ledger", "sent", 1)
    client.set(f"{{{QUEUE}}}:seen:1", 1, px=60_000)
    assert [] == ledger.leftovers(client)
    client.set(f"{{{QUEUE}}}:seen:2", 1)
    client.lpush(f"{{{QUEUE}}}:wake", 1)
    client.set("other", 1)
    expected = ["other", f"{{{QUEUE}}}:seen:2", f"{{{QUEUE}}}:wake"]
    assert expected == sorted(ledger.leftovers(client))


class Passing(redis.Redis):
    """Between the search and the question, keys end: some are gone, some have 0 ms left."""

    def scan_iter(self, *args: Any, **options: Any) -> Iterator[bytes]:
        """Find what is there, and let that end which has an end, and the lease."""
        for key in super().scan_iter(*args, **options):
            if super().pttl(key) > 0 or key.endswith(b":leases"):
                self.delete(key)
            yield key

    def pttl(self, name: bytes) -> int:
        """:return: 0 for those that were named so, else the truth."""
        return 0 if name.endswith(b":now") else int(super().pttl(name))


def test_what_ends_while_it_is_looked_at_is_no_residue(redis_url: str) -> None:
    """Only what has no end at all is left over; what is gone is not."""
    client, own = Passing.from_url(redis_url), f"{{{QUEUE}}}:"
    for name in ("seen:1", "dedup:1", "seen:now", "dedup:now"):
        client.set(f"{own}{name}", 1, px=60_000)
    client.zadd(f"{own}leases", {"c1-aa": 1})
    assert [] == ledger.leftovers(client)
    client.set(f"{own}dedup:2", 1)
    assert [f"{own}dedup:2"] == ledger.leftovers(client)


def test_witness_notes_what_is_held_and_started(tmp_path: Path, redis_url: str) -> None:
    """Of what a hurt consumer holds, that which it has started; of a buried one, its last batch."""
    app, queue = make_app(redis_url)
    broker = app.extensions["redis_queue"].broker
    with app.app_context():
        ids = [queue.send(StockSupplied, GOODS).id for _ in range(3)]
    consumer = queue.handler(StockSupplied)(lambda _: None) and queue.consumer(app, name="c1")
    one = consumer._subscriptions[0]
    one.enter()
    one.turn(3)
    pen, witness = Pen(tmp_path, "c1"), ledger.Witness(tmp_path)
    for id in ids[:2]:
        pen.write(STARTED, id)
    witness.hurt(broker_client := redis.Redis.from_url(redis_url), "c1")
    assert ([2], set(ids[:2])) == (witness.unsettled, set(ledger.read(tmp_path).at_risk))
    broker.bury(QUEUE, one.consumer, known=True)
    witness.hurt(broker_client, "c1")
    witness.hurt(broker_client, "c1", for_good=True)
    assert ([2, 0, 2], 1) == (witness.unsettled, witness.unknown)
    pen.close()
    witness.close()


def test_witness_judges_the_naive_pair_alike(tmp_path: Path) -> None:
    """What was popped and not finished is at risk; what was finished, or popped after, is not."""
    pen, witness = Pen(tmp_path, "c1"), ledger.Witness(tmp_path)
    finished = [f"{mark} {id}" for id in ("p-0", "p-1") for mark in (STARTED, APPLIED)]
    for line in (*finished, f"{STARTED} p-1", f"{STARTED} p-2"):
        pen.write(*line.split())
    witness.hurt_naive("c1")
    witness.hurt_naive("c1")  # hurt again in the same handler: still one effect more
    assert {"p-1": 1, "p-2": 1} == {
        id: n.total() for id, n in ledger.read(tmp_path).at_risk.items()
    }
    assert [2, 2] == witness.unsettled
    pen.close()
    witness.close()


def test_only_the_last_life_of_a_name_is_at_risk(tmp_path: Path, redis_url: str) -> None:
    """A worker of `-p` has the name of the one before it, and has not started what that one had."""
    client = redis.Redis.from_url(redis_url)
    pen, witness = Pen(tmp_path, "c1.1"), ledger.Witness(tmp_path)
    client.zadd(f"{{{QUEUE}}}:leases", {"c1.1-bb": 1})
    client.hset(f"{{{QUEUE}}}:held:c1.1-bb", "1-1", 'x 0 1 0\n{"id": "p-1"}')
    for line in (f"{READY} c1.1", f"{STARTED} p-1"):
        pen.write(*line.split())
    witness.hurt(client, "c1.1")
    pen.write(READY, "c1.1")
    witness.hurt(client, "c1.1")
    assert [1, 0] == witness.unsettled
    pen.close()
    witness.close()


def test_half_a_line_is_none(tmp_path: Path) -> None:
    """What somebody is writing just now has not been done yet."""
    (tmp_path / "c1.ledger").write_text(f"{APPLIED} p-1\n{APPLIED}")
    assert [("c1", [APPLIED, "p-1"])] == list(ledger.lines(tmp_path))


def test_survives_a_kill(tmp_path: Path) -> None:
    """A line is there once its write has returned, whatever becomes of the process."""
    code = (
        "import sys; from pathlib import Path; from tests.faults.ledger import Pen\n"
        "pen = Pen(Path(sys.argv[1]), 'p')\n"
        "for n in range(10**9): pen.write('attempted', f'p-{n}'); print(n, flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(1000):
            last = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        last = [last, *process.stdout.read().split()][-1]  # it may not have come to another
    eventually(lambda: process.poll() is not None, "it is dead")
    numbers = [int(id.rpartition("-")[2]) for id in ledger.read(tmp_path).attempted]
    assert set(range(int(last) + 1)) <= set(numbers)
    assert len(numbers) == max(numbers) + 1
