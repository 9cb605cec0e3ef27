"""Functions, and what each handles. Decorators only record here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from marshmallow import Schema

from .contracts import Contract, contract_of
from .durations import Duration, seconds
from .exceptions import ConfigurationError
from .functions import check_handler, is_async, place_of
from .keys import check_queue_name
from .retry import RetryCallable, RetryOption, RetryPolicy, as_policy

ErrorTypes = tuple[type[BaseException], ...]
ErrorType = type[BaseException] | ErrorTypes


@dataclass(frozen=True)
class Handler:
    """A function and what it handles.

    :param function: The user's function, sync or ``async def``.
    :param type: The message type; ``None``: untyped messages.
    :param queue: Its queue; ``None`` until it is resolved for an app.
    :param contract: Whose Schema loads the payload; ``None``: the payload as it is.
    :param retry: The policy for its failures.
    :param dead_on: Exceptions that make the message a dead letter at once.
    :param pause_on: Exceptions that are not the message's fault: the queue rests.
    :param timeout: Seconds that one run may take; ``None``: any.
    """

    function: Callable[..., Any]
    type: str | None
    queue: str | None
    contract: Contract | None
    retry: RetryOption
    dead_on: ErrorTypes = ()
    pause_on: ErrorTypes = ()
    timeout: float | None = None

    @property
    def place(self) -> str:
        """:return: ``module.qualname`` of the function."""
        return place_of(self.function)

    @cached_property  # asked for each message, and inspect is slow
    def is_async(self) -> bool:
        """:return: Whether the function is a coroutine function."""
        return is_async(self.function)

    @property
    def patience(self) -> float | None:
        """:return: Seconds after which it is interrupted; a coroutine is cancelled before."""
        return self.timeout + 1.0 if self.timeout and self.is_async else self.timeout

    @property
    def policy(self) -> RetryPolicy | RetryCallable:
        """:return: The retry policy, of a handler that is resolved."""
        if not callable(self.retry):
            raise TypeError("the handler is not resolved for an app yet")
        return self.retry


class Recorder:
    """What the ``handler`` decorator has recorded on one extension object."""

    def __init__(self) -> None:
        self.handlers: list[Handler] = []
        self.version = 0

    def add(self, handler: Handler) -> None:
        """Record a handler; the same function again replaces itself.

        :raises ConfigurationError: If another function handles this already.
        """
        self.version += 1
        for index, known in enumerate(self.handlers):
            if (known.type, queue_of(known)) == (handler.type, queue_of(handler)):
                refuse_second(known, handler)
                self.handlers[index] = handler
                return
        self.handlers.append(handler)


def make_handler(
    function: Callable[..., Any],
    contract: type[Schema] | str | None,
    *,
    queue: str | None,
    schema: type[Schema] | None,
    retry: RetryOption = None,
    dead_on: ErrorType = (),
    pause_on: ErrorType = (),
    timeout: Duration | None = None,
) -> Handler:
    """Check what the ``handler`` decorator was given.

    :return: The handler, not yet resolved for an app.
    :raises ConfigurationError: If it makes no sense.
    """
    if queue is not None:
        check_queue_name(queue)
    as_policy(retry, RetryPolicy())
    check_handler(function)
    name, known = _what_it_handles(contract, schema)
    if name is None and queue is None and schema is None:
        raise ConfigurationError("@handler needs a contract, or queue= for untyped messages.")
    return Handler(
        function,
        name,
        queue,
        known,
        retry,
        _error_types(dead_on, "dead_on"),
        _error_types(pause_on, "pause_on"),
        _positive(timeout),
    )


def _error_types(given: ErrorType, name: str) -> ErrorTypes:
    errors = given if isinstance(given, tuple) else (given,)
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            raise ValueError(f"{name} holds {error!r}. Use exception classes.")
    return errors


def _positive(timeout: Duration | None) -> float | None:
    if timeout is None:
        return None
    found = seconds(timeout, name="timeout")
    if found < 0.001:
        raise ValueError(f"timeout is {timeout!r}. Use at least 1ms.")
    return found


def _what_it_handles(
    contract: type[Schema] | str | None, schema: type[Schema] | None
) -> tuple[str | None, Contract | None]:
    if isinstance(contract, str):
        return contract, Contract(contract, schema) if schema is not None else None
    if contract is None:
        return None, Contract("(untyped)", schema) if schema is not None else None
    known = contract_of(contract)
    if known is None:
        raise ConfigurationError(
            f"{getattr(contract, '__name__', contract)!s} is no @message schema. "
            'Decorate it with @message("its.type").'
        )
    return known.type, known if schema is None else replace(known, schema_class=schema)


def queue_of(handler: Handler) -> str | None:
    """:return: Its queue, or its contract's; ``None``: the app's default queue."""
    return handler.queue or (handler.contract.queue if handler.contract else None)


def refuse_second(known: Handler, other: Handler) -> None:
    """Refuse two functions for the same messages; the same function again is the same.

    :raises ConfigurationError: With both places.
    """
    if known.place != other.place:
        what = f'"{known.type}"' if known.type is not None else "untyped messages"
        queue = queue_of(known) or "the default queue"
        raise ConfigurationError(
            f"{what} on {queue} has two handlers: {known.place} and {other.place}. Remove one."
        )
