"""``RedisQueue``: what a Flask app sees of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar, overload

from flask import Flask
from marshmallow import Schema

from . import config as configuration
from .consumer import Consumer
from .contracts import contracts_in
from .durations import Duration, seconds
from .exceptions import ConfigurationError
from .handlers import Recorder, make_handler
from .options import SentMessage, check_options
from .pace import Limits
from .retry import RetryOption
from .state import EXTENSION, AppState, current_state, state_of

Contracts = ModuleType | type[Schema] | Iterable[ModuleType | type[Schema]]
Headers = Mapping[str, str | int]
HandlerFunction = TypeVar("HandlerFunction", bound=Callable[[Any], object])
_NOTHING: Any = object()


class RedisQueue:
    """A queue between Flask services, over Redis lists.

    Nothing here touches Redis: connections are made at the first ``send``, in the process that
    sends.

    :param app: The app, if there is one already; else :meth:`init_app` takes it.
    :param contracts: A module or ``@message`` schemas that this app sends without handling.
    :param handlers: Dotted names of modules with handlers, relative to the app's package. ``flask
        consume`` imports them, the web process does not.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        contracts: Contracts = (),
        handlers: str | Iterable[str] = (),
    ) -> None:
        self._contracts = contracts_in(contracts)
        self._handlers = (handlers,) if isinstance(handlers, str) else tuple(handlers)
        self._recorder = Recorder()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give an app this queue.

        :param app: The app; one object may serve several.
        :raises ConfigurationError: If it has a queue already, or a ``REDIS_*`` value is wrong.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError(
                f'App "{app.name}" has a RedisQueue already. Call init_app once, and pass the app '
                "either to RedisQueue(app) or to init_app(app)."
            )
        configuration.load(app.config)  # says now what is plainly wrong; read for good at first use
        app.extensions[EXTENSION] = AppState(
            app, self, self._recorder, tuple(self._contracts), self._handlers
        )

    @overload
    def send(
        self,
        contract: type[Schema] | str,
        payload: Any,
        /,
        *,
        queue: str | None = None,
        delay: Duration | None = None,
        expires: Duration | None = None,
        headers: Headers | None = None,
        id: str | None = None,
        dedup: str | None = None,
        dedup_window: Duration | None = None,
    ) -> SentMessage: ...

    @overload
    def send(
        self,
        payload: Any,
        /,
        *,
        queue: str | None = None,
        delay: Duration | None = None,
        expires: Duration | None = None,
        headers: Headers | None = None,
        id: str | None = None,
        dedup: str | None = None,
        dedup_window: Duration | None = None,
    ) -> SentMessage: ...

    def send(self, contract: Any, payload: Any = _NOTHING, /, **options: Any) -> SentMessage:
        """Send one message.

        :param contract: A ``@message`` schema, or a type name that this app knows. Left out: the
            only contract of the queue, or none.
        :param payload: A mapping in wire form, or an object that the schema dumps.
        :param queue: Another queue than the contract's.
        :param delay: How long it waits before it is ready.
        :param expires: How long it may be handled.
        :param headers: Extension attributes: lower-case names; strings, booleans, integers.
        :param id: Its id; sending an id again in the dedup window stores nothing.
        :param dedup: A second send with this key in the window stores nothing.
        :param dedup_window: How long ``dedup`` holds; ``REDIS_QUEUE_DEDUP_WINDOW`` if not given.
        :return: What was sent.
        :raises InvalidMessage: If the schema refuses the payload.
        :raises UnknownMessage: If this app does not know the type.
        :raises MessageTooLarge: If it is larger than ``REDIS_QUEUE_MAX_BYTES``.
        :raises QueueFull: If the queue has reached ``REDIS_QUEUE_MAX_LENGTH``.
        :raises QueueUnavailable: If Redis is away; ``.stored`` says what is known.
        :raises ValueError: If an option is not allowed.
        """
        if payload is _NOTHING:
            if isinstance(contract, type) and issubclass(contract, Schema):
                raise TypeError(f"send({contract.__name__}, payload): the payload is missing.")
            contract, payload = None, contract
        state = self._state()
        checked = check_options(**options)
        return state.publisher.send(state.registry, contract, payload, checked)

    def send_many(
        self,
        contract: type[Schema] | str,
        payloads: Iterable[Any],
        /,
        *,
        queue: str | None = None,
        delay: Duration | None = None,
        expires: Duration | None = None,
        headers: Headers | None = None,
    ) -> list[SentMessage]:
        """Send many messages; every payload is validated before the first is sent.

        :param contract: A ``@message`` schema, or a type name that this app knows.
        :param payloads: As for :meth:`send`.
        :param queue: Another queue than the contract's.
        :param delay: How long they wait before they are ready.
        :param expires: How long they may be handled.
        :param headers: Extension attributes of each.
        :return: One for each payload, in order.
        :raises InvalidMessage: With ``messages`` as ``{index: {…}}``; none was sent.
        :raises QueueUnavailable: ``.sent`` holds those of the chunks that were stored before.
        """
        state = self._state()
        options = check_options(queue=queue, delay=delay, expires=expires, headers=headers)
        return state.publisher.send_many(state.registry, contract, payloads, options)

    def handler(
        self,
        contract: type[Schema] | str | None = None,
        /,
        *,
        queue: str | None = None,
        schema: type[Schema] | None = None,
        retry: RetryOption = None,
        dead_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        pause_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        timeout: Duration | None = None,
    ) -> Callable[[HandlerFunction], HandlerFunction]:
        """Register a function, sync or ``async def``, for a message.

        :param contract: A ``@message`` schema, or a type name with ``schema=``. Left out: the
            untyped messages of ``queue=``.
        :param queue: Another queue than the contract's.
        :param schema: What loads the payload, if the contract does not say.
        :param retry: A :class:`RetryPolicy`, a function ``(attempt, error)`` that returns a delay
            or ``None``, a number of attempts, or ``None``: the app's.
        :param dead_on: Exceptions that make the message a dead letter at once.
        :param pause_on: Exceptions that are not the message's fault, such as a database that is
            away: the message goes back without counting an attempt, and its queue rests here,
            longer each time, until a probe succeeds.
        :param timeout: How long one run may take; then :class:`TimeoutError` is its failure.
        :return: A decorator that returns the function unchanged.
        :raises ConfigurationError: If another function handles this already.
        """

        def decorate(function: HandlerFunction) -> HandlerFunction:
            handler = make_handler(
                function,
                contract,
                queue=queue,
                schema=schema,
                retry=retry,
                dead_on=dead_on,
                pause_on=pause_on,
                timeout=timeout,
            )
            self._recorder.add(handler)
            return function

        return decorate

    def consumer(
        self,
        app: Flask,
        *,
        queues: Iterable[str] = (),
        name: str | None = None,
        burst: bool = False,
        max_messages: int = 0,
        max_seconds: Duration = 0,
        stop_timeout: Duration | None = None,
        concurrency: int = 1,
    ) -> Consumer:
        """Make what ``flask consume`` runs, for programs that embed it.

        :param app: The app whose handlers run.
        :param queues: What to read, in this order; left out: every queue that has a handler.
        :param name: What people call it; left out: host and process id.
        :param burst: Stop when the queues are empty.
        :param max_messages: Stop after so many; 0: never.
        :param max_seconds: Stop after this time; 0: never.
        :param stop_timeout: What a running handler gets after :meth:`Consumer.stop`.
        :param concurrency: How many threads run handlers; 1 keeps the order of the queue.
        :return: The consumer; its ``run()`` returns what was done.
        :raises ConfigurationError: If the app has no handlers.
        """
        state = state_of(app)
        self._refuse_foreign(state)
        state.import_handlers()
        limits = Limits(burst, max_messages, seconds(max_seconds, name="max_seconds"))
        timeout = None if stop_timeout is None else seconds(stop_timeout, name="stop_timeout")
        return state.make_consumer(
            list(queues),
            name=name,
            limits=limits,
            stop_timeout=timeout,
            concurrency=concurrency,
        )

    def _state(self) -> AppState:
        state = current_state()
        self._refuse_foreign(state)
        return state

    def _refuse_foreign(self, state: AppState) -> None:
        if state.owner is not self:
            raise ConfigurationError(
                f'App "{state.app.name}" was initialised by another RedisQueue object. Import that '
                "one, or call init_app of this one instead."
            )
