"""What is known of a user's function without calling it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .exceptions import ConfigurationError


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


def check_handler(function: Callable[..., Any]) -> None:
    """Refuse a function that no message could be given to.

    :param function: What the ``handler`` decorator decorates.
    :raises ConfigurationError: If it cannot be called with one argument; the text names its place.
    """
    if not callable(function):
        raise ConfigurationError(f"@handler decorates functions, not {function!r}.")
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
