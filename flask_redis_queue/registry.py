"""Which messages an app knows, and which function handles each.

What was recorded is resolved for one app when it is first asked for, since the default queue and
the default retry policy are the app's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace

from .contracts import Contract, contract_of
from .exceptions import ConfigurationError, UnknownMessage
from .handlers import Handler, queue_of, refuse_second
from .retry import RetryCallable, RetryPolicy, as_policy


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
        queue = queue_of(handler) or self.default_queue
        default = default_retry if isinstance(default_retry, RetryPolicy) else RetryPolicy()
        retry = default_retry if handler.retry is None else as_policy(handler.retry, default)
        resolved = replace(handler, queue=queue, contract=contract, retry=retry)
        known = self._handlers.setdefault((queue, handler.type), resolved)
        if known is not resolved:
            refuse_second(known, resolved)
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


def _name(contract: Contract) -> str:
    return f"{contract.schema_class.__module__}.{contract.schema_class.__qualname__}"
