"""What a resting queue says, and when it is tried."""

from __future__ import annotations

import types
from dataclasses import replace

import pytest

from flask_redis_queue import pausing
from flask_redis_queue.envelope import Message
from flask_redis_queue.outcomes import (
    Ack,
    DeadLetter,
    Expired,
    HandBack,
    Outcome,
    Paused,
    RetryLater,
)
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
        pauses.note("goods", Paused(PROBE, OSError("no route\nto it")), 0.0)
        probes += 1
        clock.now += pauses.left("goods")
    assert 50 < probes < 120
    pauses.note("goods", Ack(PROBE), 0.0)
    pauses.note("goods", Ack(PROBE), 0.0)
    begin, *again, end = [record.getMessage() for record in caplog.records]
    assert begin.startswith("goods rests: OSError: no route. Its messages wait")
    assert 2 == len(again)
    for line in again:
        assert line.startswith("goods still rests, after ")
        assert line.endswith(" min: OSError: no route. The probe is stock.supplied 0199-1")
    assert end.startswith("goods goes on after")
    assert (0.0, 0) == (pauses.left("goods"), pauses.probe("goods"))


def test_neighbours_of_the_same_moment_count_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four threads that fail together make the rest no longer."""
    monkeypatch.setattr(pausing, "time", types.SimpleNamespace(monotonic=lambda: 100.0))
    pauses = Pauses()
    for _ in range(4):
        pauses.note("goods", Paused(PROBE, OSError("away")), 0.0)
    assert 0.25 <= round(pauses.left("goods"), 6) <= 0.5
    assert 1 == len(caplog.records)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    """A queue whose first message has failed as the probe five times."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(pausing, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    made = Pauses()
    sizes = []
    for _ in range(5):
        assert made.note("goods", Paused(PROBE, OSError("away")), 0.0)
        sizes.append(made.probe("goods"))
        clock.now += made.left("goods")
    assert [1, 1, 1, 1, 2] == sizes
    return made


OTHER = replace(PROBE, id="0199-2")


@pytest.mark.parametrize(
    ("outcome", "is_blamed"),
    [
        (Ack(OTHER), True),
        (Ack(replace(OTHER, type="stock.moved")), False),
        (Ack(PROBE), False),
        (RetryLater(OTHER, 1.0), False),
    ],
)
def test_who_is_to_blame(pauses: Pauses, outcome: Outcome, is_blamed: bool) -> None:
    """One that failed five times, where another one of its type is handled at once."""
    assert not pauses.note("goods", outcome, 0.0)
    assert (0, is_blamed) == (pauses.probe("goods"), pauses.is_to_blame(PROBE))


@pytest.mark.parametrize(
    "outcome", [Expired(OTHER), HandBack(), DeadLetter(OTHER, "invalid", "It is invalid.")]
)
def test_what_proves_nothing(pauses: Pauses, outcome: Outcome) -> None:
    """No handler has run, so nobody knows how the surroundings are."""
    assert not pauses.note("goods", outcome, 0.0)
    assert (2, False) == (pauses.probe("goods"), pauses.is_to_blame(PROBE))


def test_a_second_that_fails_clears_the_first(pauses: Pauses) -> None:
    """Then it is an outage: nobody is to blame, and the next probes are the first message again."""
    pauses.note("goods", Paused(OTHER, OSError("away")), 0.0)
    assert 1 == pauses.probe("goods")
    pauses.note("goods", Ack(PROBE), 0.0)
    assert (False, False) == (pauses.is_to_blame(PROBE), pauses.is_to_blame(OTHER))


def test_blame_ends_when_it_is_handled(pauses: Pauses) -> None:
    """It was an outage after all, and the next one is none of its fault."""
    pauses.note("goods", Ack(OTHER), 0.0)
    pauses.note("goods", Ack(PROBE), 0.0)
    assert not pauses.is_to_blame(PROBE)
