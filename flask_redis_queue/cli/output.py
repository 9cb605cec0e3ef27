"""Where the events of ``flask consume`` go: lines for people, JSON for machines, a progress bar."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import click

from .lines import marked, visible
from .writing import echo, finish, is_terminal, json_text, surviving

LogFormat = Literal["pretty", "plain", "json"]
_BAR = frozenset({"handled", "retried", "dead", "expired"})


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    :param name: What kind of thing, for machines.
    :param mark: One character that says the same.
    :param colour: Its colour.
    :param text: What happened, in a line.
    :param tail: The end of that line, which is never cut.
    :param fields: What a machine wants to know of it.
    :param more: Lines below it.
    :param cut: Whether to cut a long line on a terminal.
    """

    name: str
    mark: str
    colour: str
    text: str
    tail: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    more: Sequence[str] = ()
    cut: bool = True


class TextOutput:
    """Lines for people.

    :param coloured: Whether marks have a colour, where it is a terminal.
    """

    def __init__(self, *, coloured: bool = True) -> None:
        self._coloured = coloured
        self._lock = threading.RLock()
        self.cuts = is_terminal()  # in a log the end of a line is worth more than its width
        self.sums_up = not self.cuts

    def start(self, lines: Sequence[str], fields: Mapping[str, Any]) -> None:
        """Print the start table.

        :param lines: For people.
        :param fields: The same for machines.
        """
        with self._lock:
            for one in lines:
                self._print(one)

    def ready(self, line: str, fields: Mapping[str, Any]) -> None:
        """Say that Redis has accepted all that a consumer does."""
        self.start([line], fields)

    def say(self, event: Event) -> None:
        """Print one event."""
        text = marked(event.mark, event.colour, event.text, event.tail, cut=event.cut and self.cuts)
        with self._lock:
            for one in (text, *(visible(more, lines=True) for more in event.more)):
                self._print(one)

    def close(self) -> None:
        """Print what was kept back."""

    def end(self) -> None:
        """Print what was kept back; nothing comes after it."""
        self.close()
        finish()

    def _print(self, line: str) -> None:
        echo(line if self._coloured else click.unstyle(line))


class JsonOutput(TextOutput):
    """One JSON object a line."""

    def __init__(self) -> None:
        super().__init__(coloured=False)
        self.cuts = self.sums_up = False  # each event is one object, and a whole one

    def start(self, lines: Sequence[str], fields: Mapping[str, Any]) -> None:
        """Print the start table as an event."""
        self._write("started", "", fields)

    def ready(self, line: str, fields: Mapping[str, Any]) -> None:
        """Say that Redis has accepted all that a consumer does."""
        self._write("ready", "", fields)

    def say(self, event: Event) -> None:
        """Print one event."""
        self._write(event.name, f"{event.text}{event.tail}", event.fields)

    def _write(self, name: str, text: str, fields: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record: dict[str, Any] = {"time": now, "event": name}
        if text:
            record["message"] = text
        with self._lock:
            echo(json_text({**record, **fields}, default=str))


class BarOutput(TextOutput):
    """A progress bar that successes move; everything else is a line above it.

    :param length: How many messages wait at the start; the bar grows if more come.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.sums_up = False
        self._stack = ExitStack()
        self._length = length
        self._bar: Any = None

    def say(self, event: Event) -> None:
        """Print one event, or move the bar."""
        with self._lock:
            if event.name != "handled":
                if self._bar is not None:
                    echo("\r\x1b[2K", newline=False)  # the next move draws the bar again
                super().say(event)
            if event.name in _BAR:
                with surviving():
                    self._move()

    def close(self) -> None:
        """Leave the bar as it is, and go on below it."""
        with self._lock:
            with surviving():
                self._stack.close()
            self._bar = None

    def _move(self) -> None:
        if self._bar is None:
            self._bar = self._stack.enter_context(
                click.progressbar(
                    length=max(self._length, 1),
                    label="handling",
                    width=30,
                    show_pos=True,
                    update_min_steps=max(1, self._length // 200),
                )
            )
        if self._bar.pos >= self._bar.length:
            self._bar.length += 1
        self._bar.update(1)


def make_output(wanted: LogFormat | None, *, bar: int | None) -> TextOutput:
    """Choose by what the user wants, and by where it goes.

    :param wanted: ``--log-format``; ``None``: pretty on a terminal, else plain.
    :param bar: How many messages wait, if a bar may be shown; ``None``: lines only.
    :return: The output.
    """
    on_terminal = is_terminal()
    chosen = wanted or ("pretty" if on_terminal else "plain")
    if chosen == "json":
        return JsonOutput()
    if chosen == "pretty" and bar is not None and on_terminal:
        return BarOutput(bar)
    return TextOutput(coloured=chosen == "pretty")
