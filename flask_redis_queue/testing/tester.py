"""What the fixtures give a test: the queue of one app, in one thread, with its time in hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import Any, Unpack

from flask import Flask, current_app
from marshmallow import Schema

from .. import signals
from ..browse import DeadLetterRecord
from ..context import CurrentMessage, handling
from ..contracts import Contract, contract_of
from ..durations import Duration, seconds
from ..envelope import Delivery, Message, new_id
from ..options import SendOptions, SentMessage, check_options
from ..outcomes import Outcome
from ..pace import Tally
from ..processor import Processor
from ..state import EXTENSION, AppState, state_of
from ..subscription import Subscription
from ..timetravel import TravellingBroker, travel
from .matching import refuse, require
from .servers import MakePool

ContractLike = type[Schema] | str
_NOTHING: Any = object()


class QueueTester:
    """The queue of one app in a test.

    :param app: The app, with its ``RedisQueue``.
    :param make_pool: Makes connections to the server of the test.
    """

    def __init__(self, app: Flask, make_pool: MakePool) -> None:
        self.app = app
        self._original = state_of(app)
        self._state: AppState = replace(self._original, make_pool=make_pool)
        self._broker = TravellingBroker(self._state.broker.pool, self._state.config)
        self._state.__dict__["broker"] = self._broker  # where cached_property keeps it
        self._subscriptions: dict[str, Subscription] = {}
        self._planned: list[BaseException | type[BaseException]] = []
        self._failure: tuple[Message, BaseException | None, str] | None = None
        self._injected: BaseException | None = None
        self._sent: list[Message] = []
        self._exits, self._imported = ExitStack(), False

    def __enter__(self) -> QueueTester:
        self.app.extensions[EXTENSION] = self._state
        self._exits.callback(self.app.extensions.__setitem__, EXTENSION, self._original)
        for signal, receiver in (
            (signals.message_sent, self._on_sent),
            (signals.message_retried, self._on_failed),
            (signals.message_dead, self._on_failed),
        ):
            signal.connect(receiver, sender=self.app)
            self._exits.callback(signal.disconnect, receiver, sender=self.app)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.close()

    # Sending -----------------------------------------------------------------------------------

    def send(
        self, contract: Any, payload: Any = _NOTHING, /, **options: Unpack[SendOptions]
    ) -> SentMessage:
        """Send a message, as :meth:`.RedisQueue.send` does, from outside of a view.

        :param contract: A ``@message`` schema or a type name; left out: by the queue.
        :param payload: A mapping in wire form, or an object that the schema dumps.
        :return: What was sent.
        """
        if payload is _NOTHING:
            contract, payload = None, contract
        with self._app_context():
            return self._state.publisher.send(
                self._state.registry, contract, payload, check_options(**options)
            )

    @property
    def sent(self) -> list[Message]:
        """:return: What the app has sent in this test, the first one first; handled or not."""
        return list(self._sent)

    def assert_sent(self, contract: ContractLike, /, **subset: Any) -> Message:
        """Fail unless a message was sent that has these fields.

        :param contract: Its ``@message`` schema, or its type.
        :param subset: Fields by their names on the wire; others may have any value.
        :return: The first that has them.
        """
        __tracebackhide__ = True
        return require(self._sent, *self._known(contract), subset)

    def assert_not_sent(self, contract: ContractLike | None = None, /, **subset: Any) -> None:
        """Fail if a message was sent that has these fields.

        :param contract: Its ``@message`` schema, or its type; ``None``: any message at all.
        :param subset: Fields by their names on the wire.
        """
        __tracebackhide__ = True
        name, known = self._known(contract) if contract is not None else (None, None)
        refuse(self._sent, name, known, subset)

    # Handling ----------------------------------------------------------------------------------

    def perform(
        self,
        contract: Any,
        payload: Any = _NOTHING,
        /,
        *,
        queue: str | None = None,
        headers: dict[str, Any] | None = None,
        attempt: int = 1,
    ) -> None:
        """Run one handler: validate, encode, decode, load, handle; nothing enters the queue.

        :param contract: A ``@message`` schema or a type name; left out: by the queue.
        :param payload: A mapping in wire form, or an object that the schema dumps.
        :param queue: Another queue than the contract's.
        :param headers: Extension attributes.
        :param attempt: Which run of the handler this is.
        :raises BaseException: What the handler, or its schema, raised.
        """
        __tracebackhide__ = True
        if payload is _NOTHING:
            contract, payload = None, contract
        self._import_handlers()
        message, body = self._state.publisher.prepare(
            self._state.registry, contract, payload, check_options(queue=queue, headers=headers)
        )
        delivery = Delivery(message.queue, "1-1", f"test:{new_id()}", attempt - 1, 0, 0, body)
        self._process(delivery, time.time() + self._broker.travelled)
        self._raise_failure()

    def drain(self, *queues: str, allow_dead: bool = False, limit: int = 1000) -> Tally:
        """Handle what is ready, and what handlers send meanwhile, until nothing is left.

        What is delayed or failed waits for :meth:`travel`.

        :param queues: Which queues; none: all that this app handles.
        :param allow_dead: Go on after a failure: look at :attr:`dead` and the result.
        :param limit: More messages than this are taken for an endless loop.
        :return: What was done.
        :raises BaseException: What the first handler that failed has raised.
        :raises AssertionError: For a dead letter that no exception made, and past the limit.
        """
        __tracebackhide__ = True
        self._import_handlers()
        done = Tally()
        names = self._state.registry.queues_to_read(queues)
        subscriptions = [self._subscription(name) for name in names]
        try:
            while any(self._handle_next(one, done) for one in subscriptions):
                if not allow_dead:
                    self._raise_failure()
                if done.total > limit:
                    raise AssertionError(
                        f"drain() has handled {limit:,} messages, and there are more. Does a "
                        "handler send to its own queue? Pass limit= if so many are meant."
                    )
        except BaseException:
            for one in subscriptions:
                one.turn(0)  # settled when the test looks
            raise
        finally:
            self._failure = None
        return done

    @property
    def dead(self) -> list[DeadLetterRecord]:
        """:return: The dead letters of every queue that the app knows, the oldest first."""
        return [
            one
            for queue in self._state.registry.known_queues
            for one in self._state.inspector.dead_letters(queue)
        ]

    def fail_next(self, error: BaseException | type[BaseException], *, times: int = 1) -> None:
        """Have the next handler raise this instead of running.

        :meth:`drain` does not pass it on to the test: the message is retried, or dies.

        :param error: An exception, or its class.
        :param times: How many runs fail so.
        """
        self._planned.extend([error] * times)

    def travel(self, duration: Duration) -> None:
        """Let time pass: for what is delayed, retried or expires, and for ``dedup=``.

        :param duration: How much; as every duration, for example ``"10m"``.
        """
        self._broker.travelled += (passed := seconds(duration, name="travel()"))
        for queue in {*self._state.registry.known_queues, *(one.queue for one in self._sent)}:
            travel(self._broker.pool, queue, round(passed * 1000))

    @contextmanager
    def message(self, **fields: Any) -> Iterator[CurrentMessage]:
        """Open ``current_message``, to call a handler, or what it calls, directly.

        :param fields: Of the message: ``id type queue attempt headers source …``
        :return: What ``current_message`` stands for.
        """
        fields = {"id": new_id(), "type": None, "data": None, "attempt": 1, **fields}
        fields.setdefault("queue", self._state.config.queue_name)
        with self._app_context(), handling(self.app, Message(**fields)) as current:
            yield current

    # Behind it ---------------------------------------------------------------------------------

    def _handle_next(self, one: Subscription, done: Tally) -> bool:
        one.turn(1)
        delivery = one.take()
        if delivery is None:
            return False
        outcome = self._process(delivery, one.now + self._broker.travelled)
        one.finish(delivery, outcome)
        done.count(outcome)
        return True

    def _process(self, delivery: Delivery, now: float) -> Outcome:
        processor = Processor(self._state.registry, self._open, self.app)
        try:
            return processor.process(delivery, now)
        finally:
            processor.close()

    @contextmanager
    def _open(self, message: Message) -> Iterator[None]:
        if self._planned:
            planned = self._planned.pop(0)
            self._injected = planned() if isinstance(planned, type) else planned
            raise self._injected
        with self._app_context(), handling(self.app, message):
            yield

    def _app_context(self) -> AbstractContextManager[object]:
        # Inside a request of the test a second context would have other sessions and another `g`.
        if current_app and current_app._get_current_object() is self.app:  # type: ignore[attr-defined]
            return nullcontext()
        return self.app.app_context()

    def _subscription(self, queue: str) -> Subscription:
        if queue not in self._subscriptions:
            one = Subscription(self._broker, queue, "test", self._broker.pool)
            one.enter()
            self._subscriptions[queue] = one
        return self._subscriptions[queue]

    def _import_handlers(self) -> None:
        if not self._imported:
            self._state.import_handlers()
        self._imported = True

    def _known(self, contract: ContractLike) -> tuple[str, Contract | None]:
        if isinstance(contract, str):
            return contract, self._state.registry.contracts.get(contract)
        known = contract_of(contract)
        return (known.type, known) if known else (contract.__name__, None)

    def _on_sent(self, app: Flask, *, message: Message, **extra: Any) -> None:
        self._sent.append(message)

    def _on_failed(
        self,
        app: Flask,
        *,
        message: Message,
        error: BaseException | None,
        why: str = "",
        **extra: Any,
    ) -> None:
        if error is None or error is not self._injected:
            self._failure = (message, error, why)

    def _raise_failure(self) -> None:
        __tracebackhide__ = True
        if self._failure is None:
            return
        (message, error, why), self._failure = self._failure, None
        what = f"{message.type or 'An untyped message'} on {message.queue}"
        if error is None:
            raise AssertionError(f"{what} became a dead letter. {why}")
        error.add_note(f"While handling {what}, attempt {message.attempt}.")
        raise error
