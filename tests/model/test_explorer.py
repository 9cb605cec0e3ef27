"""Every small history keeps the rules."""

from __future__ import annotations

import pytest

from ..servers import RealServer
from .census import REFUSED, ZOMBIES, took
from .explorer import explore
from .states import NAMES
from .worlds import WORLDS


@pytest.mark.parametrize("name", WORLDS)
def test_every_small_history_keeps_the_rules(
    shared_server: RealServer, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Conservation, fencing and the ledger in each state; and nothing is ever stuck."""
    bounds, least, histories = WORLDS[name]
    result = explore(shared_server, bounds, histories)
    with capsys.disabled():
        print(f"\n{name}: {result}")
    assert least <= result.states
    assert [] == result.missed
    assert all(result.counts[took(consumer)] for consumer in NAMES), "one of them never had any"
    if bounds.path:
        assert result.counts[ZOMBIES], "no zombie met who has its message now"
        assert any(what.startswith(REFUSED) for what in result.counts), "and none tried to settle"
