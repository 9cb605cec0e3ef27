"""What is known of a user's function without calling it."""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .exceptions import ConfigurationError

_NOT_USERS = (
    str(Path(__file__).resolve().parent),
    *(p for name in ("stdlib", "purelib", "platlib") if (p := sysconfig.get_path(name))),
)


class Frame(NamedTuple):
    """A place in the user's code.

    :param file: Relative to the working folder, if it is below it.
    :param line: Its number.
    :param function: In which function.
    :param source: What stands there.
    """

    file: str
    line: int
    function: str
    source: str


def place_of(function: Callable[..., Any]) -> str:
    """:return: ``module.qualname`` of a function, or of the class of an object that is called."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def is_async(function: Callable[..., Any]) -> bool:
    """:return: Whether a call returns a coroutine; of an object, whether its ``__call__`` does."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )


def text_of(error: BaseException) -> str:
    """Ask an exception for its text, whatever comes.

    :param error: The exception.
    :return: Its text, which can be written as UTF-8: half a surrogate pair is spelled out.
    """
    try:
        said = str(error)
    except Exception as trouble:
        return f"(its text cannot be had: {type(trouble).__name__})"
    return said.encode("utf-8", "backslashreplace").decode("utf-8")


def check_handler(function: Callable[..., Any]) -> None:
    """Refuse a function that no message could be given to.

    :param function: What the ``handler`` decorator decorates.
    :raises ConfigurationError: If it cannot be called with one argument; the text names its place.
    """
    if not callable(function):
        raise ConfigurationError(f"@handler decorates functions, not {function!r}.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"{place_of(function)} has a yield, so that a call of it runs nothing. A handler is a "
            "plain or an async function without one."
        )
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some of C's do not say; the first message will
    try:
        signature.bind(None)
    except TypeError as error:
        raise ConfigurationError(
            f"{place_of(function)}{signature} cannot handle a message: {error}. A handler is "
            "called with one argument, what the Schema has loaded."
        ) from None


def user_frames(error: BaseException) -> list[Frame]:
    """Find where in the user's own code an error was raised.

    :param error: With its traceback.
    :return: The frames that are neither Python's, nor an installed package's, nor ours; the
        innermost last.
    """
    found = []
    for frame in traceback.extract_tb(error.__traceback__):
        try:
            path = os.path.abspath(frame.filename)
            shown = os.path.relpath(path)
        except (OSError, ValueError):  # the working folder is gone, or on another drive
            path = shown = frame.filename
        if path.startswith(_NOT_USERS) or not os.path.exists(path):
            continue
        shown = path if shown.startswith("..") else shown
        number = frame.lineno or 0
        source = linecache.getline(path, number).strip()
        found.append(Frame(shown, number, frame.name, source))
    return found
