"""The whole suite of ``redis_queue`` once more, with ``real_redis_queue`` in its place."""

from __future__ import annotations

import pytest

from flask_redis_queue.testing import QueueTester

from ..unit.test_testing import *  # noqa: F403


@pytest.fixture
def redis_queue(real_redis_queue: QueueTester) -> QueueTester:
    """The same methods, on a real server."""
    return real_redis_queue
