"""Every small history keeps the rules."""

from __future__ import annotations

import pytest

from ..servers import RealServer
from .census import BOTH_HOLD, BOTH_TURNED, REFUSED, ZOMBIES
from .explorer import explore
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
    assert result.counts[BOTH_TURNED], "only one of them ever takes a turn"
    assert result.counts[BOTH_HOLD], "only one of them ever takes a message"
    if bounds.path:
        assert result.counts[ZOMBIES], "no zombie meets who has its message now"
        assert any(what.startswith(REFUSED) for what in result.counts), "and none tries to settle"
