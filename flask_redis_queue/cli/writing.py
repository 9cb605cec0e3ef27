"""Writing to where people look: what cannot be written is lost as a line, and costs nothing else.

A log may be on a full disk, behind a pipe that nobody reads, or nowhere; and what an error says may
hold characters that the stream has no code for. None of this may change what becomes of a message.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from typing import Any, TextIO

import click


def is_terminal() -> bool:
    """:return: Whether standard output is one; it may be closed, or be nothing at all."""
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except ValueError:
        return False


def encodable(text: str, stream: TextIO | None = None) -> str:
    r"""Write ``\\xe9`` and the like for what a stream cannot take.

    :param text: Any text.
    :param stream: Where it goes; ``None``: standard output.
    :return: The text, or one that the stream can take.
    """
    encoding = _encoding(stream or sys.stdout)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def json_text(value: Any, stream: TextIO | None = None, **how: Any) -> str:
    """Write JSON, with escapes only where the stream has no code for a character.

    :param value: What :func:`json.dumps` takes.
    :param stream: Where it goes; ``None``: standard output.
    :param how: As :func:`json.dumps`.
    :return: The text.
    """
    text = json.dumps(value, ensure_ascii=False, **how)
    try:
        text.encode(_encoding(stream or sys.stdout))
    except UnicodeEncodeError:
        return json.dumps(value, **how)
    return text


def put(text: str) -> None:
    """Print what a command was asked for; if that is not possible, it fails.

    :param text: What to print.
    """
    click.echo(encodable(text))


def echo(text: str, *, newline: bool = True) -> None:
    """Print what a consumer says, if that is possible.

    :param text: What to print.
    :param newline: Whether the line ends here.
    """
    with surviving():
        click.echo(encodable(text), nl=newline)


class surviving(contextlib.AbstractContextManager[None]):
    """A block that writes to standard output, and ends well though it could not."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            drop_output()
        return isinstance(error, (OSError, ValueError))


def finish() -> None:
    """Write what is left in the buffer; what cannot be written is given up.

    Python would try again at its end, and turn the exit code into 120.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        drop_output()


def drop_output() -> None:
    """Let standard output go nowhere from now on; handlers that print do not fail then."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"
