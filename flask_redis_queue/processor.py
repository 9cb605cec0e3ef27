"""One delivery in, one outcome out: decode, look up, load, run, judge.

Nothing here touches Redis. What cannot be decoded, is invalid, or has no handler becomes a dead
letter with its exact bytes; it is never dropped and never retried. Whatever a handler raises is a
failure of the message, never of the consumer (:mod:`.judging`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from marshmallow import ValidationError

from . import signals
from .envelope import Delivery, Malformed, Message, decode
from .guard import Guard, Interrupted, TimedOut
from .handlers import Handler
from .judging import Judge, Overdue, Unloadable
from .outcomes import Ack, Expired, HandBack, Outcome
from .registry import Registry

_logger = logging.getLogger("flask_redis_queue")


class Processor:
    """Runs the handlers of one app, in one thread.

    :param registry: What the app knows.
    :param open_context: Gives the context that a message is handled in: the app's, with
        ``current_message``. It is open before the Schema loads.
    :param sender: The app, for signals.
    :param guard: Armed while a handler runs.
    :param is_to_blame: Whether a message is at fault where its handler names its surroundings.
    """

    def __init__(
        self,
        registry: Registry,
        open_context: Callable[[Message], AbstractContextManager[object]],
        sender: object,
        guard: Guard | None = None,
        is_to_blame: Callable[[Message], bool] = lambda message: False,
    ) -> None:
        self._guard = guard or Guard()
        self._registry = registry
        self._open_context = open_context
        self._sender = sender
        self._judge = Judge(sender, is_to_blame)
        self._runner: asyncio.Runner | None = None

    def process(self, delivery: Delivery, now: float) -> Outcome:
        """Handle one delivery.

        :param delivery: What the queue gave.
        :param now: The server's time, Unix seconds.
        :return: What becomes of it.
        """
        try:
            message = decode(delivery)
        except Malformed as error:
            return self._judge.dead(_unread(delivery), "malformed", f"Not a message: {error}.")
        if message.expires is not None and message.expires.timestamp() <= now:
            return Expired(message)
        handler = self._registry.find(delivery.queue, message.type)
        if handler is None:
            return self._judge.dead(message, "unknown type", self._no_handler(message))
        if signals.message_received.receivers:
            signals.emit(signals.message_received, self._sender, message=message)
        self._guard.delivery = delivery
        return self._run(handler, message)

    def refuse_unread(self, queue: str, birth: str) -> Outcome:
        """Tell of a message that was too large to come here, and is a dead letter already.

        :param queue: Where it was.
        :param birth: What the queue calls it.
        :return: That it is dead.
        """
        message = Message(id=birth, type=None, queue=queue, data=None, attempt=1)
        return self._judge.dead(message, "too large", "Larger than REDIS_QUEUE_MAX_BYTES.")

    def judge_timeout(self, delivery: Delivery) -> Outcome:
        """Judge a handler that hangs where nothing can end it.

        :param delivery: What it was given.
        :return: As if it had raised :class:`TimeoutError`.
        """
        message = decode(delivery)
        handler = self._registry.find(delivery.queue, message.type)
        return self._judge.judge(handler, message, TimedOut(), 0.0) if handler else HandBack()

    def close(self) -> None:
        """Close the event loop of ``async def`` handlers, if there was one."""
        runner, self._runner = self._runner, None
        if runner is not None:
            with contextlib.suppress(BaseException):  # what ended a task comes out of it again
                runner.close()

    def _run(self, handler: Handler, message: Message) -> Outcome:
        started = time.perf_counter()
        error = self._execute(handler, message)
        duration = time.perf_counter() - started
        if error is not None:
            return self._judge.judge(handler, message, error, duration)
        if signals.message_handled.receivers:
            signals.emit(signals.message_handled, self._sender, message=message, duration=duration)
        return Ack(message)

    def _execute(self, handler: Handler, message: Message) -> BaseException | None:
        """Run the handler.

        :return: What came out of it; ``None``: its effect is done. Nothing interrupts any more.
        """
        returned = False
        try:
            try:
                self._guard.arm(handler.patience)
                with self._open_context(message):
                    self._call(handler, _load(handler, message))
                    returned = True
            finally:
                self._guard.disarm()
        except BaseException as error:
            if not isinstance(error, Exception):
                self.close()  # an event loop that was left in its middle is not used again
            if not returned:
                return error
            # The effect is done; running it again would double it.
            if not isinstance(error, Interrupted):
                _logger.exception("Tearing down the app context failed after %s.", message.id)
        return None

    def _call(self, handler: Handler, payload: Any) -> None:
        result = handler.function(payload)
        if result is None:
            return
        if inspect.isawaitable(result):
            self._wait_for(handler, result)
        elif inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise TypeError(
                f"{handler.place} returned a generator, so that nothing of it has run. "
                "Use a function without yield."
            )

    def _wait_for(self, handler: Handler, work: Awaitable[Any]) -> None:
        if self._runner is None:
            self._runner = asyncio.Runner()
        # A copy made now, so that the handler sees the app context and current_message.
        self._runner.run(_within(handler.timeout, work), context=contextvars.copy_context())

    def _no_handler(self, message: Message) -> str:
        if message.type is None:
            return (
                f"Nothing handles untyped messages on {message.queue}. "
                f'Add @queue.handler(queue="{message.queue}").'
            )
        if message.type in self._registry.contracts:
            return f'No handler for "{message.type}" on {message.queue}. Kept as a dead letter.'
        hint = self._registry.hint(message.type)
        guess, _, known = hint.partition(" Known:")
        return f'No handler for "{message.type}".{guess} Kept as a dead letter. Known:{known}'


def _load(handler: Handler, message: Message) -> Any:
    if handler.contract is None:
        return message.data
    try:
        return handler.contract.load(message.data)
    except ValidationError as error:
        raise Unloadable(error) from error


async def _within(limit: float | None, work: Awaitable[Any]) -> None:
    clock = asyncio.timeout(limit)
    try:
        async with clock:
            await work
    except TimeoutError as error:
        # A handler may raise this error, too: that one is its own.
        if clock.expired():
            raise Overdue from error
        raise


def _unread(delivery: Delivery) -> Message:
    return Message(
        id=delivery.birth,
        type=None,
        queue=delivery.queue,
        data=None,
        attempt=delivery.attempts + 1,
        raw=delivery.raw,
    )
