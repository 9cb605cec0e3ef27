"""What the tests of the commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .shop import Shop


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """A folder with an app, and an empty server."""
    return Shop(tmp_path, redis_url)
