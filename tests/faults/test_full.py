"""Row 11: memory or disk full: `send` says so, the consumers drain, and it goes on after."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flask_redis_queue import QueueUnavailable

from ..apps import GOODS, StockSupplied, make_app
from ..conftest import eventually
from ..servers import RealServer
from .fleet import Fleet
from .helpers import BACK, FACTOR, LOST, handle, said_its_end, start_ready
from .ledger import APPLIED


def send_until_refused(fleet: Fleet) -> str:
    """:return: What the error says in the end."""
    app, queue = make_app(fleet.server.url)
    with app.app_context():
        for _ in range(100_000):
            try:
                queue.send(StockSupplied, {**GOODS, "product_code": "x" * 10_000}, queue="other")
            except QueueUnavailable as error:
                assert "no" == error.stored
                return str(error)
    raise AssertionError("it is never full")


def test_memory_full_under_load(fleet: Fleet) -> None:
    """`send` says that it is full, the consumers drain it unaided, and it goes on after."""
    fleet.send(50)
    client = fleet.client()
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 300_000)
    said = send_until_refused(fleet)
    assert "is full: it has reached its maxmemory" in said
    names = [fleet.start("consume").name for _ in range(2)]
    eventually(lambda: len(fleet.marks(APPLIED)) == 50, "the full server is drained", 60)
    client.config_set("maxmemory", "0")
    started = time.monotonic()
    handle(fleet, 1)
    took = time.monotonic() - started
    print(f"first message handled {took:.2f}s after there was room again, goal 2s")
    assert took < 2 * FACTOR
    client.delete("other", "{other}:ledger", *client.keys("{other}:seen:*"))
    verdict = fleet.finish()
    assert verdict.is_green, verdict
    assert 0 == verdict.doubled.total()
    assert max(fleet.output([name]).count(LOST) for name in names) <= 1


def takes_writes(fleet: Fleet) -> bool:
    """:return: Whether its last write to the disk went well."""
    return bool(fleet.client().info("persistence")["aof_last_write_status"] == "ok")


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a disk of 4 MB, where that is allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no small disk: mounting a tmpfs is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_disk_full(fleet: Fleet, tmp_path: Path) -> None:
    """Redis answers MISCONF: `send` says so, the consumer waits, and goes on when there is room."""
    with small_disk(tmp_path / "disk"):
        fleet.server.kill()
        fleet.server = RealServer(tmp_path / "disk", auto_aof_rewrite_percentage="0")
        fleet.proxy.target = fleet.server.port
        fleet.server.start()
        try:
            (name,) = start_ready(fleet)
            handle(fleet, 10)
            filler = tmp_path / "disk" / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as out:
                while True:
                    out.write(b"x" * 512)
            said = send_until_refused(fleet)
            eventually(lambda: LOST in fleet.output([name]), "the consumer says it", 30)
            filler.unlink()
            # It may have gone on for a moment before there was room.
            eventually(lambda: takes_writes(fleet), "Redis has written to its disk", 30)
            eventually(lambda: said_its_end(fleet.output([name])), "it goes on", 30)
            fleet.client().delete("other", "{other}:ledger")
            handle(fleet, 10)
            verdict = fleet.finish()
            lost = verdict.lost
        finally:
            fleet.server.kill()
    print(said)
    output = fleet.output([name])
    assert [] == lost
    # Redis takes writes again between two attempts to append, which it makes once a second.
    assert 1 <= output.count(LOST) == output.count(BACK), output
    assert "cannot save to its disk" in said
