"""The look of one line: time, mark, text; 100 columns at most."""

from __future__ import annotations

from datetime import datetime

import click

WIDTH = 100


def line(mark: str, colour: str, text: str, tail: str = "", *, cut: bool = True) -> None:
    """Print one line.

    :param mark: One character that says what kind of thing happened.
    :param colour: Its colour on a terminal.
    :param text: What happened; cut where the line would be too long.
    :param tail: What is never cut.
    :param cut: Whether to cut at all.
    """
    clock = datetime.now().strftime("%H:%M:%S")
    text = " ".join(text.split())
    if cut:
        text = shorten(text, WIDTH - len(clock) - len(tail) - 3)
    click.echo(f"{clock} {click.style(mark, fg=colour)} {text}{tail}")


def shorten(text: str, width: int) -> str:
    """:return: The text, cut to a width with an ellipsis."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
