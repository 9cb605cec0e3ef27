"""Which messages an app knows, and which function handles each.

Decorators only record here. What is recorded is resolved for one app when it is first asked for,
since the default queue and the default retry policy are the app's.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from marshmallow import Schema

from .contracts import Contract, contract_of
from .exceptions import ConfigurationError, UnknownMessage
from .functions import check_handler, is_async, place_of
from .keys import check_queue_name
from .retry import RetryCallable, RetryOption, RetryPolicy, as_policy

ErrorTypes = tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Handler:
    """A function and what it handles.

    :param function: The user's function, sync or ``async def``.
    :param type: The message type; ``None``: untyped messages.
    :param queue: Its queue; ``None`` until it is resolved for an app.
    :param contract: Whose Schema loads the payload; ``None``: the payload as it is.
    :param retry: The policy for its failures.
    :param dead_on: Exceptions that make the message a dead letter at once.
    """

    function: Callable[..., Any]
    type: str | None
    queue: str | None
    contract: Contract | None
    retry: RetryOption
    dead_on: ErrorTypes = ()

    @property
    def place(self) -> str:
        """:return: ``module.qualname`` of the function."""
        return place_of(self.function)

    @cached_property  # asked for each message, and inspect is slow
    def is_async(self) -> bool:
        """:return: Whether the function is a coroutine function."""
        return is_async(self.function)

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
            if (known.type, _queue_of(known)) == (handler.type, _queue_of(handler)):
                _refuse_second(known, handler)
                self.handlers[index] = handler
                return
        self.handlers.append(handler)


def make_handler(
    function: Callable[..., Any],
    contract: type[Schema] | str | None,
    *,
    queue: str | None,
    schema: type[Schema] | None,
    retry: RetryOption,
    dead_on: type[BaseException] | tuple[type[BaseException], ...],
) -> Handler:
    """Check what the ``handler`` decorator was given.

    :return: The handler, not yet resolved for an app.
    :raises ConfigurationError: If it makes no sense.
    """
    if queue is not None:
        check_queue_name(queue)
    as_policy(retry, RetryPolicy())
    errors = dead_on if isinstance(dead_on, tuple) else (dead_on,)
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            raise ValueError(f"dead_on holds {error!r}. Use exception classes.")
    check_handler(function)
    name, known = _what_it_handles(contract, schema)
    if name is None and queue is None and schema is None:
        raise ConfigurationError("@handler needs a contract, or queue= for untyped messages.")
    return Handler(function, name, queue, known, retry, errors)


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


class Registry:
    """What one app knows: its contracts and its handlers, resolved.

    :param contracts: From ``contracts=``.
    :param handlers: From the decorator.
    :param default_queue: The app's ``REDIS_QUEUE_NAME``.
    :param default_retry: The app's ``REDIS_QUEUE_RETRY``.
    :raises ConfigurationError: If two contracts share a type, or two functions a type and queue.
    """

    def __init__(
        self,
        contracts: Iterable[Contract],
        handlers: Iterable[Handler],
        default_queue: str,
        default_retry: RetryPolicy | RetryCallable,
    ) -> None:
        self.default_queue = default_queue
        self.contracts: dict[str, Contract] = {}
        self._handlers: dict[tuple[str, str | None], Handler] = {}
        for contract in contracts:
            self._learn(contract)
        for handler in handlers:
            self._resolve(handler, default_retry)

    def _learn(self, contract: Contract) -> None:
        known = self.contracts.setdefault(contract.type, contract)
        if known.schema_class is not contract.schema_class:
            raise ConfigurationError(
                f'Two schemas are "{contract.type}": {_name(known)} and {_name(contract)}. '
                "Give one of them another type."
            )

    def _resolve(self, handler: Handler, default_retry: RetryPolicy | RetryCallable) -> None:
        contract = handler.contract
        if handler.type is not None:
            if contract is None:
                contract = self.contracts.get(handler.type)
            if contract is None:
                raise ConfigurationError(
                    f'{handler.place} handles "{handler.type}", which this app does not know. '
                    "Pass schema=, or name its contract in contracts=."
                )
            own = contract_of(contract.schema_class)
            if own is not None and own.type == handler.type:
                self._learn(own)
            else:
                self.contracts.setdefault(handler.type, contract)
        queue = _queue_of(handler) or self.default_queue
        default = default_retry if isinstance(default_retry, RetryPolicy) else RetryPolicy()
        retry = default_retry if handler.retry is None else as_policy(handler.retry, default)
        resolved = replace(handler, queue=queue, contract=contract, retry=retry)
        known = self._handlers.setdefault((queue, handler.type), resolved)
        if known is not resolved:
            _refuse_second(known, resolved)
            self._handlers[queue, handler.type] = resolved

    @property
    def handlers(self) -> list[Handler]:
        """:return: Every handler, in the order they were recorded."""
        return list(self._handlers.values())

    @property
    def handled_queues(self) -> list[str]:
        """:return: Each queue that has a handler, in the order they were recorded."""
        return list(dict.fromkeys(queue for queue, _ in self._handlers))

    def queues_to_read(self, wanted: Iterable[str]) -> list[str]:
        """Check what a consumer is to read.

        :param wanted: Queues, in order; none: every queue that has a handler.
        :return: Each once.
        :raises ConfigurationError: If nothing handles one of them, or there are no handlers.
        """
        handled = self.handled_queues
        if not handled:
            raise ConfigurationError(
                'No handlers. Name their module: RedisQueue(handlers=".handlers").'
            )
        queues = list(dict.fromkeys(wanted)) or handled
        for queue in queues:
            if queue not in handled:
                raise ConfigurationError(
                    f'No handler reads "{queue}". This app handles: {", ".join(handled)}.'
                )
        return queues

    @property
    def known_queues(self) -> list[str]:
        """:return: Each queue that this app reads or writes."""
        written = [self.queue_of(contract) for contract in self.contracts.values()]
        return list(dict.fromkeys([*self.handled_queues, *written])) or [self.default_queue]

    def queue_of(self, contract: Contract) -> str:
        """:return: Where messages of this contract travel."""
        return contract.queue or self.default_queue

    def contract(self, name: str) -> Contract:
        """Look a type name up.

        :raises UnknownMessage: If this app does not know it.
        """
        found = self.contracts.get(name)
        if found is None:
            raise UnknownMessage(
                f'This app knows no message "{name}".{self.hint(name)} Nothing was stored. '
                "Name its module in RedisQueue(contracts=…)."
            )
        return found

    def contracts_on(self, queue: str) -> list[Contract]:
        """:return: The contracts that travel on a queue."""
        return [c for c in self.contracts.values() if self.queue_of(c) == queue]

    def find(self, queue: str, type: str | None) -> Handler | None:
        """Find who handles a message.

        :param queue: The queue it came on.
        :param type: Its type; ``None``: untyped, which goes to the queue's untyped handler, else
            to its only typed one.
        :return: The handler, if there is one.
        """
        found = self._handlers.get((queue, type))
        if found is None and type is None:
            typed = [handler for (on, _), handler in self._handlers.items() if on == queue]
            return typed[0] if len(typed) == 1 else None
        return found

    def hint(self, name: str) -> str:
        """:return: ``Did you mean …? Known: …``, with a space before it."""
        close = difflib.get_close_matches(name, self.contracts, n=1)
        guess = f' Did you mean "{close[0]}"?' if close else ""
        known = ", ".join(sorted(self.contracts)) or "none"
        return f"{guess} Known: {known}."


def _queue_of(handler: Handler) -> str | None:
    return handler.queue or (handler.contract.queue if handler.contract else None)


def _name(contract: Contract) -> str:
    return f"{contract.schema_class.__module__}.{contract.schema_class.__qualname__}"


def _refuse_second(known: Handler, other: Handler) -> None:
    if known.place != other.place:
        what = f'"{known.type}"' if known.type is not None else "untyped messages"
        queue = _queue_of(known) or "the default queue"
        raise ConfigurationError(
            f"{what} on {queue} has two handlers: {known.place} and {other.place}. Remove one."
        )
