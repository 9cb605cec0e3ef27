"""What a resting queue says, and when it is tried."""

from __future__ import annotations

import types

import pytest

from flask_redis_queue import pausing
from flask_redis_queue.envelope import Message
from flask_redis_queue.pausing import Pauses

PROBE = Message(id="0199-1", type="stock.supplied", queue="goods", data={})


def test_trouble_that_stays_is_said_again_and_names_the_probe(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line when it begins, one every ten minutes, one when it ends."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(pausing, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    pauses = Pauses()
    probes = 0
    while clock.now < 1500:
        pauses.begin("goods", PROBE, OSError("no route\nto it"))
        probes += 1
        clock.now += pauses.left("goods")
    assert 50 < probes < 120
    pauses.end("goods", 0.0)
    pauses.end("goods", 0.0)
    begin, *again, end = [record.getMessage() for record in caplog.records]
    assert begin.startswith("goods rests: OSError: no route. Its messages wait")
    assert 2 == len(again)
    for line in again:
        assert line.startswith("goods still rests, after ")
        assert line.endswith(" min: OSError: no route. The probe is stock.supplied 0199-1")
    assert end.startswith("goods goes on after")
    assert (0.0, False) == (pauses.left("goods"), pauses.is_probing("goods"))


def test_neighbours_of_the_same_moment_count_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four threads that fail together make the rest no longer."""
    monkeypatch.setattr(pausing, "time", types.SimpleNamespace(monotonic=lambda: 100.0))
    pauses = Pauses()
    for _ in range(4):
        pauses.begin("goods", PROBE, OSError("away"))
    assert 0.25 <= round(pauses.left("goods"), 6) <= 0.5
    assert 1 == len(caplog.records)
