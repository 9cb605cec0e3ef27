"""Random histories of the protocol agree with the reference, on a real server and on fakeredis."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ..servers import RealServer
from .events import history_on
from .numbers import numbered

# Making a history shorter takes minutes, longer than a test may hang: only when asked for.
_SHRINKS = bool(os.environ.get("HYPOTHESIS_SHRINK") or os.environ.get("HYPOTHESIS_SECONDS"))
_FIXED = settings(
    phases=[Phase.generate, *([Phase.shrink] if _SHRINKS else [])],
    derandomize=True,
    database=None,
    deadline=None,
    stateful_step_count=50,
    # A slow machine makes histories slow, which says nothing about the protocol.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture
def client(shared_server: RealServer) -> Iterator[redis.Redis]:
    """A client of an empty server."""
    one = redis.Redis(port=shared_server.port, socket_timeout=20, protocol=2)
    one.flushall()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def _names_have_numbers() -> Iterator[None]:
    """Which consumer is meant must not depend on chance."""
    with numbered(step=1):
        yield


def test_histories_agree_with_the_reference(client: redis.Redis) -> None:
    """Always the same histories; with HYPOTHESIS_SECONDS new ones, for so long."""
    seconds = float(os.environ.get("HYPOTHESIS_SECONDS", "0"))
    if not seconds:
        run_state_machine_as_test(history_on(client), settings=settings(_FIXED, max_examples=300))
        return
    until = time.monotonic() + seconds
    new = settings(_FIXED, derandomize=False, max_examples=200, stateful_step_count=80)
    while time.monotonic() < until:
        run_state_machine_as_test(history_on(client), settings=new)


def test_histories_on_fakeredis_agree_too() -> None:
    """What the tester of the package uses behaves as the real one does."""
    with fakeredis.FakeRedis(version=(7,), protocol=2) as one:
        chosen = settings(_FIXED, max_examples=8)
        run_state_machine_as_test(history_on(one), settings=chosen)
