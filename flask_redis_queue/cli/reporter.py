"""A line for each message, as a receiver of the public signals.

Passwords and payloads are never printed.
"""

from __future__ import annotations

import linecache
import logging
import os
import sys
import sysconfig
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from flask import Flask

from .. import signals
from ..durations import text as duration_text
from ..envelope import Message
from ..pace import Tally
from .lines import WIDTH, line, shorten

_SUM_ABOVE = 50
"""Lines a second, off a terminal, above which successes are summed up."""
_PACKAGE = str(Path(__file__).resolve().parent.parent)
_NOT_USERS = tuple(
    str(Path(path))
    for name in ("stdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)


class Reporter:
    """Prints a line for each message, as a receiver of the public signals.

    :param app: Whose messages.
    :param verbosity: -1: only failures and trouble. 1: whole tracebacks.
    """

    def __init__(self, app: Flask, verbosity: int) -> None:
        self._app = app
        self._verbosity = verbosity
        self._is_terminal = sys.stdout.isatty()
        self._lock = threading.Lock()
        self._second = 0
        self._lines = 0
        self._summed: Counter[tuple[str, str]] = Counter()
        self._timer: threading.Timer | None = None
        self._log = _LogLines()

    def __enter__(self) -> Reporter:
        if self._verbosity >= 0:
            signals.message_handled.connect(self._handled, sender=self._app)
        signals.message_retried.connect(self._retried, sender=self._app)
        signals.message_dead.connect(self._dead, sender=self._app)
        logger = logging.getLogger("flask_redis_queue")
        logger.addHandler(self._log)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signals.message_handled.disconnect(self._handled, sender=self._app)
        signals.message_retried.disconnect(self._retried, sender=self._app)
        signals.message_dead.disconnect(self._dead, sender=self._app)
        logger = logging.getLogger("flask_redis_queue")
        logger.removeHandler(self._log)
        logger.propagate = True
        if self._timer is not None:
            self._timer.cancel()
        self._flush()

    def stopped(self, tally: Tally) -> None:
        """Print the sum."""
        self._flush()
        parts = [f"{tally.handled:,} handled", f"{tally.retried:,} retried", f"{tally.dead:,} dead"]
        if tally.expired:
            parts.append(f"{tally.expired:,} expired")
        parts.append(f"{tally.handed_back:,} handed back")
        line("■", "blue", f"stopped · {' · '.join(parts)}")

    def _handled(self, app: Flask, *, message: Message, duration: float, **extra: Any) -> None:
        if not self._is_terminal and self._sums_up(message):
            return
        line("✓", "green", f"{_name(message)} {duration_text(duration)}")

    def _retried(
        self,
        app: Flask,
        *,
        message: Message,
        error: BaseException,
        delay: float,
        max_attempts: int | None = None,
        **extra: Any,
    ) -> None:
        of = f"/{max_attempts}" if max_attempts else ""
        tail = f" · try {message.attempt + 1}{of} in {duration_text(delay)}"
        line("↻", "yellow", f"{_name(message)} {_said(error)}", tail)
        self._frames(error)

    def _dead(
        self,
        app: Flask,
        *,
        message: Message,
        error: BaseException | None,
        cause: str,
        why: str,
        **extra: Any,
    ) -> None:
        if cause == "failed" and error is not None:
            tries = "1 try" if message.attempt == 1 else f"{message.attempt} tries"
            line("✗", "red", f"{_name(message)} {_said(error)}", f" · dead after {tries}")
            self._frames(error)
        else:
            line("✗", "red", f"{_name(message)} {cause}: {why}", " · dead letter")

    def _frames(self, error: BaseException) -> None:
        if self._verbosity > 0:
            click.echo("".join(traceback.format_exception(error)).rstrip())
            return
        for name, number, function, source in _user_frames(error)[-3:]:
            click.echo(shorten(f"           {name}:{number} {function}   {source}", WIDTH))

    def _sums_up(self, message: Message) -> bool:
        with self._lock:
            second = int(time.monotonic())
            if second != self._second:
                self._second, self._lines = second, 0
            self._lines += 1
            if self._lines <= _SUM_ABOVE and not self._summed:
                return False
            self._summed[message.queue, message.type or "(untyped)"] += 1
            if self._timer is None:
                self._timer = threading.Timer(1.0, self._flush)
                self._timer.daemon = True
                self._timer.start()
            return True

    def _flush(self) -> None:
        with self._lock:
            summed, self._summed, self._timer = self._summed, Counter(), None
        for (queue, name), count in summed.items():
            line("✓", "green", f"{queue} {name} {count:,} more handled")


class _LogLines(logging.Handler):
    """This package's own log records, as lines of the same look."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        mark, colour = ("!", "yellow") if record.levelno >= logging.WARNING else ("■", "blue")
        line(mark, colour, record.getMessage(), cut=False)
        if record.exc_info:
            click.echo("".join(traceback.format_exception(*record.exc_info)).rstrip())


def _name(message: Message) -> str:
    # The first half of a UUIDv7 is the time: messages of one minute share it.
    return f"{message.queue} {message.type or '(untyped)'} {message.id[-8:]}"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _user_frames(error: BaseException) -> list[tuple[str, int, str, str]]:
    found = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = os.path.abspath(frame.filename)
        if path.startswith(_PACKAGE) or path.startswith(_NOT_USERS) or not os.path.exists(path):
            continue
        shown = os.path.relpath(path)
        shown = path if shown.startswith("..") else shown
        number = frame.lineno or 0
        found.append((shown, number, frame.name, linecache.getline(path, number).strip()))
    return found
