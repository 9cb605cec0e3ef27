"""The look of what is printed: marks, colours, and where a line is cut."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import click

WIDTH = 100


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
    text = " ".join(text.split())
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
