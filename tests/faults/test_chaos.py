"""Mixed chaos (row 1): the checker is red on the naive pair, and green on ours.

Each run has a new seed, which is printed at once; ``SEED=`` fixes it.
"""

from __future__ import annotations

import faulthandler
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .chaos import Chaos
from .fleet import Fleet

SECONDS = 60.0
_PATIENCE = 600.0
"""Seconds that a slow machine has to reach the counts; then they are asserted as they are."""


@pytest.fixture
def seed(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Iterator[int]:
    """The seed of this run, said before it begins and once more where it fails."""
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    with capfd.disabled():
        print(f"\n{request.node.name}: SEED={seed}", flush=True)
    request.node.add_report_section("setup", "seed", f"SEED={seed} repeats the plan of this run")
    # The run takes as long as it takes to hurt enough; each of its steps has a deadline of its own.
    faulthandler.cancel_dump_traceback_later()
    yield seed


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_the_checker_is_red_on_the_naive_pair(tmp_path: Path, seed: int) -> None:
    """LPUSH and BRPOP lose and double under such a plan as ours survives."""

    def is_enough(chaos: Chaos) -> bool:
        return chaos.faults["kill consumer"] >= 12 and chaos.fleet.acknowledged() >= 5000

    with Fleet(tmp_path, naive=True) as fleet:
        outcome = Chaos(fleet, seed).run(is_enough)
    print(f"seed {seed}, naive: {outcome}")
    assert not outcome.verdict.is_green
    assert outcome.verdict.lost
    assert outcome.verdict.unexplained


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_nothing_is_lost_in_mixed_chaos(tmp_path: Path, seed: int) -> None:
    """60 s, 60 kill -9, 15 SIGSTOP, 6 Redis kills, random cuts: lost, ghosts and residue are 0.

    An effect is doubled only where a consumer was hurt between starting on it and settling it.
    """

    def is_enough(chaos: Chaos) -> bool:
        took = time.monotonic() - started
        return (took >= SECONDS and has_counts(chaos)) or took >= _PATIENCE

    def has_counts(chaos: Chaos) -> bool:
        faults = chaos.faults
        kills = faults["kill consumer"] + faults["kill producer"]
        enough = kills >= 60 and faults["stop consumer"] >= 15 and faults["kill redis"] >= 6
        return enough and chaos.fleet.acknowledged() >= 15_000

    with Fleet(tmp_path) as fleet:
        chaos, started = Chaos(fleet, seed), time.monotonic()
        outcome = chaos.run(is_enough)
        assert has_counts(chaos), outcome
    print(f"seed {seed}: {outcome}")
    verdict = outcome.verdict
    assert outcome.seconds >= SECONDS
    assert ([], []) == (verdict.lost, verdict.ghosts)
    assert [] == verdict.residue
    assert [] == verdict.unacknowledged
    assert [] == verdict.unexplained
    assert verdict.doubled.total() <= verdict.at_risk


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_nothing_is_lost_when_workers_and_supervisors_are_killed(tmp_path: Path, seed: int) -> None:
    """The same with `-p 2`: kill -9 hits the workers, and sometimes their supervisor."""

    def is_enough(chaos: Chaos) -> bool:
        workers, all = chaos.faults["kill worker"], chaos.faults["kill consumer"]
        return workers >= 15 and all - workers >= 3 and chaos.fleet.acknowledged() >= 4000

    with Fleet(tmp_path) as fleet:
        outcome = Chaos(fleet, seed, processes=2).run(is_enough)
    print(f"seed {seed}: {outcome}")
    assert outcome.verdict.is_green, outcome
    assert outcome.verdict.doubled.total() <= outcome.verdict.at_risk


def test_a_seed_is_a_plan() -> None:
    """The same seed makes the same plan, another one another."""
    from .chaos import plan

    def first(seed: int) -> list[object]:
        return [fault for _, fault in zip(range(100), plan(seed), strict=False)]

    assert first(1) == first(1)
    assert first(1) != first(2)
    assert Counter(name for _, name, _ in first(1)).keys()  # type: ignore[misc]
