"""What the tests with processes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path, shared_server: object) -> Iterator[Fleet]:
    """A server of its own, and processes to hurt; without a server program the test is skipped."""
    with Fleet(tmp_path) as made:
        yield made
