"""The look of what is printed: marks, colours, and where a line is cut."""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import Any

import click

WIDTH = 100
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
"""What a terminal obeys: control characters, breaks of lines, and turns of the direction."""


def visible(text: str, *, lines: bool = False) -> str:
    r"""Show what a terminal would obey, such as ``\x1b``: a sender may have written it.

    :param text: What comes from a message, or from an error.
    :param lines: Whether it may have several lines, and tabs.
    :return: A text that is only a text.
    """

    def escape(found: re.Match[str]) -> str:
        char = found[0]
        return char if lines and char in "\n\t" else char.encode("unicode_escape").decode()

    return _CONTROL.sub(escape, text)


def style(text: str, **how: Any) -> str:
    """Colour a text, unless ``NO_COLOR`` is set (https://no-color.org).

    :param text: The text.
    :param how: As :func:`click.style`.
    :return: The text with its colours; ``click.echo`` takes them out where there is no terminal.
    """
    return text if os.environ.get("NO_COLOR") else click.style(text, **how)


def marked(mark: str, colour: str, text: str, tail: str = "", *, cut: bool = True) -> str:
    """Make one line: time, mark, text; 100 columns at most.

    :param mark: One character that says what kind of thing happened.
    :param colour: Its colour.
    :param text: What happened; cut where the line would be too long.
    :param tail: What is never cut.
    :param cut: Whether to cut at all.
    :return: The line.
    """
    clock = datetime.now().strftime("%H:%M:%S")
    text, tail = visible(" ".join(text.split())), visible(tail)
    if cut:
        text = shorten(text, WIDTH - len(clock) - len(tail) - 3)
    return f"{clock} {style(mark, fg=colour)} {text}{tail}"


def shorten(text: str, width: int) -> str:
    """:return: The text, cut to a width with an ellipsis."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def columns(rows: list[list[str]]) -> list[str]:
    """Align cells.

    :param rows: Each with the same number of cells.
    :return: A line for each.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
