"""Signals: what a receiver, or the log of its failure, may do to a message: nothing."""

from __future__ import annotations

import logging
from typing import Any

from flask_redis_queue import signals


class Broken(logging.Handler):
    """A log whose disk is full, and that does not know it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Fail."""
        raise OSError(28, "No space left on device")


def test_a_log_that_raises_changes_nothing() -> None:
    """Neither the receiver's error nor the log's comes out."""
    logger, log = logging.getLogger("flask_redis_queue"), Broken()
    seen = []

    def fails(sender: object, **extra: Any) -> None:
        seen.append(sender)
        raise ValueError("no")

    logger.addHandler(log)
    try:
        with signals.message_handled.connected_to(fails, sender="app"):
            signals.emit(signals.message_handled, "app")
    finally:
        logger.removeHandler(log)
    assert ["app"] == seen
