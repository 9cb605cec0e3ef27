"""Mixed chaos (row 1): the checker is red on the naive pair, and green on ours, with one plan."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from .chaos import Chaos
from .fleet import Fleet

SEED = int(os.environ.get("SEED", "1"))


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_the_checker_is_red_on_the_naive_pair(tmp_path: Path) -> None:
    """LPUSH and BRPOP lose and double under the plan that ours survives."""

    def is_enough(chaos: Chaos) -> bool:
        return chaos.faults["kill consumer"] >= 12 and chaos.fleet.acknowledged() >= 5000

    with Fleet(tmp_path, naive=True) as fleet:
        outcome = Chaos(fleet, SEED).run(is_enough)
    print(f"seed {SEED}, naive: {outcome}")
    assert not outcome.verdict.is_green
    assert outcome.verdict.lost
    assert outcome.verdict.unexplained


@pytest.mark.slow
@pytest.mark.usefixtures("shared_server")
def test_nothing_is_lost_in_mixed_chaos(tmp_path: Path) -> None:
    """60 kill -9, 15 SIGSTOP, 6 Redis kills, random cuts: lost, ghosts and residue are 0.

    An effect is doubled only where a consumer was hurt between starting on it and settling it.
    """

    def is_enough(chaos: Chaos) -> bool:
        faults = chaos.faults
        hurt = (faults["kill consumer"] + faults["kill producer"], faults["stop consumer"])
        enough = hurt[0] >= 60 and hurt[1] >= 15 and faults["kill redis"] >= 6
        return enough and chaos.fleet.acknowledged() >= 15_000

    with Fleet(tmp_path) as fleet:
        outcome = Chaos(fleet, SEED).run(is_enough)
    print(f"seed {SEED}: {outcome}")
    verdict = outcome.verdict
    assert ([], []) == (verdict.lost, verdict.ghosts)
    assert [] == verdict.residue
    assert [] == verdict.unacknowledged
    assert [] == verdict.unexplained
    assert verdict.doubled.total() <= verdict.at_risk
    assert outcome.kills >= 60


def test_a_seed_is_a_plan() -> None:
    """The same seed makes the same plan, another one another."""
    from .chaos import plan

    def first(seed: int) -> list[object]:
        return [fault for _, fault in zip(range(100), plan(seed), strict=False)]

    assert first(1) == first(1)
    assert first(1) != first(2)
    assert Counter(name for _, name, _ in first(1)).keys()  # type: ignore[misc]
