"""Every small history keeps the rules."""

from __future__ import annotations

import pytest

from ..servers import RealServer
from .explorer import explore
from .states import Bounds

_WORLDS = {
    "plain": (Bounds(depth=6), 40_000),
    "late": (Bounds(depth=5, late=True), 10_000),
    "forgetful": (Bounds(depth=5, forgets=True), 10_000),
}


@pytest.mark.parametrize("name", _WORLDS)
def test_every_small_history_keeps_the_rules(
    shared_server: RealServer, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Conservation, fencing and the ledger in each state; and nothing is ever stuck."""
    bounds, least = _WORLDS[name]
    result = explore(shared_server, bounds)
    with capsys.disabled():
        print(f"\n{name}: {result}")
    assert least <= result.states
