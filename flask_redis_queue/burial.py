"""What a supervised process has left behind: read from the board, and dealt with at once."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from . import clients, diagnosis
from .board import Board, Report
from .broker import Broker
from .browse import Found
from .envelope import parse_delivery

_logger = logging.getLogger("flask_redis_queue")
_PATIENCE = 2.0
"""Seconds that Redis gets to answer before the lease has to tell."""
_NAMED = 3
"""Most messages that a line names."""


@dataclass
class Remains:
    """What was found.

    :param running: How many handlers ran.
    :param queues: Where.
    :param names: The ids of their messages, of the first few.
    :param back: How many messages are handed on.
    :param dead: How many became dead letters.
    """

    running: int = 0
    queues: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    back: int = 0
    dead: int = 0

    def __str__(self) -> str:
        where = f" on {', '.join(self.queues)}" if self.queues else ""
        if self.names:
            more = ", …" if self.running > len(self.names) else ""
            where += f" (message {', '.join(self.names)}{more})"
        ran = f"{self.running} handlers" if self.running > 1 else "1 handler"
        parts = [f"{ran if self.running else 'no handler'} ran{where}; what it had done is settled"]
        if self.back:
            what = "1 message is" if self.back == 1 else f"{self.back} messages are"
            parts.append(f"{what} handed on")
        if self.dead:
            what = (
                "1 became a dead letter" if self.dead == 1 else f"{self.dead} became dead letters"
            )
            parts.append(what)
        return ", ".join(parts)


def bury(broker: Broker, board: Board, process: int) -> Remains:
    """Free what a process held.

    :param broker: Its queues.
    :param board: Where it wrote down what it did.
    :param process: Its number, from 0.
    :return: What that was.
    """
    remains = Remains()
    for seat in board.seats(process):
        report = seat.read()
        if report is None:
            break
        _bury_at(broker, report, process, remains)
        seat.clear()
    return remains


def has_worked(board: Board, process: int) -> bool:
    """:return: Whether a handler has ended in this process."""
    return any(seat.has_worked for seat in board.seats(process))


def _bury_at(broker: Broker, report: Report, process: int, remains: Remains) -> None:
    if report.running:
        remains.running += len(report.running)
        remains.queues.append(report.queue)
    try:
        names, (_, back, dead) = clients.repeat(
            lambda: (
                _names(broker, report),
                broker.bury(report.queue, report.consumer, known=True, last_seen=report),
            ),
            time.monotonic() + _PATIENCE,
        )
    except (diagnosis.NotSent, RedisError, OSError):
        _logger.warning(
            "%s: could not free what worker %d held; it is handed on when its lease lapses",
            report.queue,
            process + 1,
        )
    else:
        remains.names += names
        remains.back += back
        remains.dead += dead


def _names(broker: Broker, report: Report) -> list[str]:
    """:return: The ids of what it ran, for whoever looks for the message that ends processes."""
    held = [
        (tag, broker.held(report.queue, report.consumer, tag)) for tag in report.running[:_NAMED]
    ]
    return [Found("", parse_delivery(report.queue, tag, one)).id for tag, one in held if one]


def ending(code: int) -> str:
    """:return: How a process ended, for people."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
