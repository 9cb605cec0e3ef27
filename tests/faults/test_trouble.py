"""Row 13: trouble that passes is said in two lines, and the consumer resumes by itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import redis

from ..apps import QUEUE
from ..conftest import eventually
from .fleet import Fleet
from .helpers import BACK, LOST, handle, kinds, said_its_end, start_ready
from .ledger import ACKNOWLEDGED, APPLIED


@contextmanager
def settings(fleet: Fleet, **wanted: str) -> Iterator[None]:
    """Change settings of the server for a while."""
    client = fleet.client()
    names = {name.replace("_", "-"): value for name, value in wanted.items()}
    before = {name: client.config_get(name)[name] for name in names}
    for name, value in names.items():
        client.config_set(name, value)
    yield
    for name, value in before.items():
        client.config_set(name, value)


@contextmanager
def no_replicas(fleet: Fleet) -> Iterator[None]:
    """NOREPLICAS: the server wants a replica that is not there."""
    with settings(fleet, min_replicas_to_write="1"):
        yield


@contextmanager
def readonly(fleet: Fleet) -> Iterator[None]:
    """READONLY: the server is a replica for a while."""
    fleet.client().replicaof("127.0.0.1", "1")
    yield
    fleet.client().replicaof("NO", "ONE")


@contextmanager
def master_down(fleet: Fleet) -> Iterator[None]:
    """MASTERDOWN: the server is a replica that has lost its master, and says nothing else."""
    with settings(fleet, replica_serve_stale_data="no"), readonly(fleet):
        yield


@contextmanager
def full(fleet: Fleet) -> Iterator[None]:
    """OOM: the server has reached its maxmemory."""
    with settings(fleet, maxmemory="1mb"):
        yield


@contextmanager
def loading(fleet: Fleet) -> Iterator[None]:
    """LOADING: the server starts again, and takes its time with its data."""
    client = fleet.client()
    client.config_set("appendonly", "no")  # it loads keys one by one only from a snapshot
    for number in range(100):
        client.set(f"load:{number}", 1, ex=600)
    # What it settled after the snapshot would be there again, and be handled twice rightly.
    eventually(lambda: not fleet.inspector().status(QUEUE).held, "all is settled")
    client.save()
    fleet.server.kill()
    fleet.server._settings |= {"appendonly": "no", "key_load_delay": "20000"}
    fleet.server._settings |= {"loading_process_events_interval_bytes": "1024"}
    starting = threading.Thread(target=fleet.server.start)
    starting.start()
    yield
    starting.join(60)


@contextmanager
def busy(fleet: Fleet) -> Iterator[None]:
    """BUSY: somebody's script does not end."""

    def loop() -> None:
        with suppress(redis.RedisError):
            redis.Redis(port=fleet.server.port).eval("while true do end", 0)

    with settings(fleet, busy_reply_threshold="100"):
        thread = threading.Thread(target=loop)
        thread.start()
        yield
        fleet.client().script_kill()
        thread.join(30)


@contextmanager
def half_open(fleet: Fleet) -> Iterator[None]:
    """Connections that take everything and answer nothing."""
    fleet.proxy.hang()
    yield
    fleet.proxy.accept()


@contextmanager
def refused(fleet: Fleet) -> Iterator[None]:
    """Nobody listens."""
    fleet.proxy.refuse()
    yield
    fleet.proxy.accept()


PASSING = [no_replicas, readonly, master_down, loading, busy, half_open, refused]


@pytest.mark.parametrize("trouble", PASSING, ids=lambda one: one.__name__)
def test_passing_trouble_is_said_once_and_survived(
    fleet: Fleet, trouble: Callable[[Fleet], object]
) -> None:
    """One line for its start, one for its end; it resumes by itself, and handles everything."""
    (name,) = start_ready(fleet)
    handle(fleet, 10)
    with trouble(fleet):  # type: ignore[attr-defined]
        eventually(lambda: LOST in fleet.output([name]), "it is said", 30)
    ended = time.monotonic()
    eventually(lambda: BACK in fleet.output([name]), "its end is said", 30)
    print(f"{trouble.__name__}: back {time.monotonic() - ended:.2f}s after its end")
    handle(fleet, 10)
    verdict = fleet.finish()
    assert (True, 0) == (not verdict.lost, verdict.doubled.total()), verdict
    said = kinds(fleet.output([name]), fleet.proxy.url)
    assert {"lost": 1, "back": 1, "stopped": 1} == said


def test_what_needs_no_line(fleet: Fleet) -> None:
    """SCRIPT FLUSH under load is not noticed; CLIENT KILL is told as what it is, and passes."""
    (name,) = start_ready(fleet)
    for _ in range(10):
        fleet.client().script_flush()
        handle(fleet, 3)
    assert "" == fleet.output([name])
    fleet.client().client_kill_filter(_type="normal", skipme=True)
    handle(fleet, 3)
    verdict = fleet.finish()
    assert verdict.is_green, verdict
    assert fleet.output([name]).count(LOST) <= 1


@pytest.mark.slow
def test_redis_stands_still_for_five_seconds_under_load(fleet: Fleet) -> None:
    """Two lines each that say all there is to know, nobody exits, and every message is handled."""
    names = start_ready(fleet, 3)
    producers = [fleet.start("produce").name for _ in range(2)]
    eventually(lambda: len(fleet.marks(APPLIED)) > 100, "work goes on")
    fleet.server.signal(signal.SIGSTOP)
    time.sleep(5)  # how long it stands still is the point
    fleet.server.signal(signal.SIGCONT)
    before = len(set(fleet.marks(ACKNOWLEDGED, "p*")))
    eventually(lambda: len(set(fleet.marks(APPLIED))) > before + 100, "work goes on again", 30)
    # The queue goes on as soon as one of them does; each has its own end of the trouble to tell.
    eventually(
        lambda: all(said_its_end(fleet.output([name])) for name in names), "each says its end", 30
    )
    states = {fleet.forker.state(fleet.workers[one].pid) for one in (*names, *producers)}
    outputs = {name: fleet.output([name]) for name in names}
    verdict = fleet.finish()
    print(f"{verdict}\n{outputs[names[0]]}")
    assert {"running"} == states
    for output in outputs.values():
        said = kinds(output, fleet.proxy.url)
        assert said.keys() <= {"lost", "back", "waited", "dead"}, said
        assert said["lost"] == said["back"] <= 1, output
        assert 1 <= said.total() <= 3, output
        assert "lost" not in said or "did not answer in time" in output
    assert ([], [], []) == (verdict.lost, verdict.residue, verdict.unexplained)
