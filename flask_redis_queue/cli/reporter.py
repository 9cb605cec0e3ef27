"""Turns the public signals, and this package's log, into events for the output.

Passwords and payloads are never printed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import Any

from flask import Flask

from .. import signals
from ..durations import text as duration_text
from ..envelope import Message
from ..functions import text_of, user_frames
from ..pace import Tally
from .lines import WIDTH, shorten
from .output import Event, TextOutput

_SUM_ABOVE = 50
"""Lines a second, off a terminal, above which successes are summed up."""


class Reporter:
    """A receiver of the public signals.

    :param app: Whose messages.
    :param output: Where to say it.
    :param verbosity: -1: only failures and trouble. 1: whole tracebacks.
    """

    def __init__(self, app: Flask, output: TextOutput, verbosity: int) -> None:
        self._app = app
        self._output = output
        self._verbosity = verbosity
        self._lock = threading.Lock()
        self._second = 0
        self._lines = 0
        self._summed: Counter[tuple[str, str]] = Counter()
        self._timer: threading.Timer | None = None
        self._exits = ExitStack()

    def __enter__(self) -> Reporter:
        receivers: dict[Any, Any] = {
            signals.message_retried: self._retried,
            signals.message_dead: self._dead,
        }
        if self._verbosity >= 0:
            receivers[signals.message_handled] = self._handled
        for signal, receiver in receivers.items():
            signal.connect(receiver, sender=self._app)
            self._exits.callback(signal.disconnect, receiver, sender=self._app)
        logger = logging.getLogger("flask_redis_queue")
        log = _Log(self._output)
        logger.addHandler(log)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        self._exits.callback(logger.removeHandler, log)
        self._exits.callback(setattr, logger, "propagate", True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self._output.end()

    def stopped(self, tally: Tally) -> None:
        """Say what was done."""
        self._flush()
        self._output.close()
        parts = [f"{tally.handled:,} handled", f"{tally.retried:,} retried", f"{tally.dead:,} dead"]
        if tally.expired:
            parts.append(f"{tally.expired:,} expired")
        parts.append(f"{tally.handed_back:,} handed back")
        text = f"stopped · {' · '.join(parts)}"
        self._output.say(Event("stopped", "■", "blue", text, fields=asdict(tally)))

    def _handled(self, app: Flask, *, message: Message, duration: float, **extra: Any) -> None:
        if self._output.sums_up and self._sums_up(message):
            return
        fields = {**_fields(message), "duration": round(duration, 6)}
        text = f"{_name(message)} {duration_text(duration)}"
        self._output.say(Event("handled", "✓", "green", text, fields=fields))

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
        fields = {**_fields(message), "delay": delay, "max_attempts": max_attempts}
        text = f"{_name(message)} {_said(error)}"
        self._failed("retried", "↻", "yellow", text, tail, fields, error)

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
        fields = {**_fields(message), "cause": cause, "why": why}
        if cause == "failed" and error is not None:
            tries = "1 try" if message.attempt == 1 else f"{message.attempt} tries"
            text, tail = f"{_name(message)} {_said(error)}", f" · dead after {tries}"
            self._failed("dead", "✗", "red", text, tail, fields, error)
        else:
            text = f"{_name(message)} {cause}: {why}"
            self._output.say(Event("dead", "✗", "red", text, " · dead letter", fields))

    def _failed(
        self,
        name: str,
        mark: str,
        colour: str,
        text: str,
        tail: str,
        fields: dict[str, Any],
        error: BaseException,
    ) -> None:
        whole = "".join(traceback.format_exception(error)).rstrip()
        fields |= {"error": _said(error), "traceback": whole}
        more = [whole] if self._verbosity > 0 else self._frames(error)
        self._output.say(Event(name, mark, colour, text, tail, fields, more))

    def _frames(self, error: BaseException) -> list[str]:
        lines = [
            f"           {one.file}:{one.line} {one.function}   {one.source}"
            for one in user_frames(error)[-3:]
        ]
        return [shorten(one, WIDTH) if self._output.cuts else one for one in lines]

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
            fields = {"queue": queue, "type": name, "count": count}
            text = f"{queue} {name} {count:,} more handled"
            self._output.say(Event("handled", "✓", "green", text, fields=fields))


class _Log(logging.Handler):
    """This package's own log records, as events."""

    def __init__(self, output: TextOutput) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Say one; never raise into the code that logs."""
        try:
            self._say(record)
        except Exception:
            with contextlib.suppress(Exception):  # standard error may be gone, too
                self.handleError(record)

    def _say(self, record: logging.LogRecord) -> None:
        is_trouble = record.levelno >= logging.WARNING
        name, mark, colour = ("trouble", "!", "yellow") if is_trouble else ("notice", "■", "blue")
        fields: dict[str, Any] = {"level": record.levelname.lower()}
        more = []
        if record.exc_info:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
            more = [fields["traceback"]]
        event = Event(name, mark, colour, record.getMessage(), "", fields, more, cut=False)
        self._output.say(event)


def _fields(message: Message) -> dict[str, Any]:
    return {
        "queue": message.queue,
        "type": message.type,
        "id": message.id,
        "attempt": message.attempt,
    }


def _name(message: Message) -> str:
    # The first half of a UUIDv7 is the time: messages of one minute share it.
    return f"{message.queue} {message.type or '(untyped)'} {message.id[-8:]}"


def _said(error: BaseException) -> str:
    said = text_of(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
