"""What may be a handler: anything that is called with one argument."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

from flask_redis_queue import ConfigurationError, RedisQueue
from flask_redis_queue.handlers import make_handler


def two(data: Any, more: int) -> None:
    """Take two arguments."""


async def none() -> None:
    """Take no argument."""


def named(*, data: Any) -> None:
    """Take one argument, by name only."""


class Stock:
    """Has a method, and can be called."""

    def add(self, data: Any) -> None:
        """Take one argument."""

    async def __call__(self, data: Any) -> None:
        """Take one argument, in async def."""


@pytest.mark.parametrize(
    ("function", "place", "why"),
    [
        (two, "two(data: 'Any', more: 'int') -> 'None'", "missing a required argument: 'more'"),
        (none, "none() -> 'None'", "too many positional arguments"),
        (named, "named(*, data: 'Any') -> 'None'", "too many positional arguments"),
        (
            Stock.add,
            "Stock.add(self, data: 'Any') -> 'None'",
            "missing a required argument: 'data'",
        ),
        (functools.partial(two, 1, 2), "two() -> 'None'", "too many positional arguments"),
    ],
)
def test_what_cannot_take_one_argument_is_refused(
    function: Callable[..., Any], place: str, why: str
) -> None:
    """A handler that no message could be given to is refused where it is decorated."""
    said = f"{__name__}.{place} cannot handle a message: {why}. A handler is called with one"
    with pytest.raises(ConfigurationError, match="^" + re.escape(said)):
        RedisQueue().handler(queue="q")(function)


@pytest.mark.parametrize(
    ("function", "place", "is_async"),
    [
        (Stock().add, f"{__name__}.Stock.add", False),
        (Stock(), f"{__name__}.Stock", True),
        (functools.partial(two, more=1), f"{__name__}.two", False),
        (print, "builtins.print", False),
        (lambda data, more=1, *rest, **options: None, f"{__name__}.<lambda>", False),
    ],
)
def test_what_can_take_one_argument_is_registered(
    function: Callable[..., Any], place: str, is_async: bool
) -> None:
    """Methods, objects, partial functions and builtins are handlers, and have a place."""
    assert function is RedisQueue().handler(queue="q")(function)
    made = make_handler(function, None, queue="q", schema=None, retry=None, dead_on=())
    assert (place, is_async) == (made.place, made.is_async)
