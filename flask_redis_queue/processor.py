"""One delivery in, one outcome out: decode, look up, load, run, judge.

Nothing here touches Redis. What cannot be decoded, is invalid, or has no handler becomes a dead
letter with its exact bytes; it is never dropped and never retried. What a handler raises is a
failure, and its retry policy decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from marshmallow import ValidationError

from . import signals
from .durations import seconds, text
from .envelope import Delivery, Malformed, Message, decode
from .exceptions import Reject, Retry
from .functions import user_frames
from .guard import Guard, Interrupted, TimedOut
from .handlers import Handler
from .outcomes import Ack, DeadLetter, Expired, HandBack, Outcome, Paused, RetryLater
from .registry import Registry
from .retry import RetryPolicy
from .schemas import describe, normalized

_logger = logging.getLogger("flask_redis_queue")
_TRACEBACK_BYTES = 16_000


class _Overdue(Exception):
    """A coroutine was cancelled because it ran for too long."""


class Processor:
    """Runs the handlers of one app, in one thread.

    :param registry: What the app knows.
    :param open_context: Gives the context that a message is handled in: the app's, with
        ``current_message``. It is open before the Schema loads.
    :param sender: The app, for signals.
    :param guard: Armed while a handler runs.
    """

    def __init__(
        self,
        registry: Registry,
        open_context: Callable[[Message], AbstractContextManager[object]],
        sender: object,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard or Guard()
        self._registry = registry
        self._open_context = open_context
        self._sender = sender
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
            return self._dead(_unread(delivery), "malformed", f"Not a message: {error}.")
        if message.expires is not None and message.expires.timestamp() <= now:
            return Expired(message)
        handler = self._registry.find(delivery.queue, message.type)
        if handler is None:
            return self._dead(message, "unknown type", self._no_handler(message))
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
        return self._dead(message, "too large", "Larger than REDIS_QUEUE_MAX_BYTES.")

    def judge_timeout(self, delivery: Delivery) -> Outcome:
        """Judge a handler that hangs where nothing can end it.

        :param delivery: What it was given.
        :return: As if it had raised :class:`TimeoutError`.
        """
        message = decode(delivery)
        handler = self._registry.find(delivery.queue, message.type)
        if handler is None:
            return HandBack()
        return self._timed_out(handler, message)

    def close(self) -> None:
        """Close the event loop of ``async def`` handlers, if there was one."""
        runner, self._runner = self._runner, None
        if runner is not None:
            with contextlib.suppress(Interrupted):  # what ended a task comes out of it again
                runner.close()

    def _run(self, handler: Handler, message: Message) -> Outcome:
        started = time.perf_counter()
        returned = False
        try:
            self._guard.arm(handler.patience)
            with self._open_context(message):
                payload = message.data
                if handler.contract is not None:
                    try:
                        payload = handler.contract.load(payload)
                    except ValidationError as error:
                        return self._invalid(handler, message, error)
                if handler.is_async:
                    self._run_async(handler, payload)
                else:
                    handler.function(payload)
                returned = True
        except Interrupted as error:
            self.close()  # an event loop that was left in its middle is not used again
            if not returned:
                is_late = isinstance(error, TimedOut)
                return self._timed_out(handler, message) if is_late else HandBack()
        except _Overdue:
            return self._timed_out(handler, message)
        except (Exception, SystemExit) as error:
            if not returned:
                if isinstance(error, handler.pause_on):
                    return Paused(message, error)
                return self._failed(handler, message, error, time.perf_counter() - started)
            # The effect is done; running it again would double it.
            _logger.exception("Tearing down the app context failed after %s.", message.id)
        finally:
            self._guard.disarm()
        if signals.message_handled.receivers:
            duration = time.perf_counter() - started
            signals.emit(signals.message_handled, self._sender, message=message, duration=duration)
        return Ack(message)

    def _run_async(self, handler: Handler, payload: Any) -> None:
        if self._runner is None:
            self._runner = asyncio.Runner()
        work = handler.function(payload)
        if handler.timeout is not None:
            work = _within(handler.timeout, work)
        # A copy made now, so that the handler sees the app context and current_message.
        self._runner.run(work, context=contextvars.copy_context())

    def _timed_out(self, handler: Handler, message: Message) -> Outcome:
        limit = handler.timeout or 0.0
        error = TimeoutError(f"the handler ran longer than its timeout of {text(limit)}")
        return self._failed(handler, message, error, limit)

    def _failed(
        self, handler: Handler, message: Message, error: BaseException, duration: float
    ) -> Outcome:
        details = _error_details(handler, error)
        if isinstance(error, Reject):
            return self._dead(message, "rejected", str(error), error, details, duration)
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, handler.dead_on):
            return self._dead(message, "failed", why, error, details, duration)
        delay = _retry_delay(handler, message.attempt, error)
        if delay is None:
            return self._dead(message, "failed", why, error, details, duration)
        signals.emit(
            signals.message_retried,
            self._sender,
            message=message,
            error=error,
            delay=delay,
            duration=duration,
            max_attempts=getattr(handler.policy, "max_attempts", None),
        )
        return RetryLater(message, delay)

    def _invalid(self, handler: Handler, message: Message, error: ValidationError) -> DeadLetter:
        messages = normalized(error)
        why = describe(messages, message.data)
        details = {"handler": handler.place, "messages": _printable(messages)}
        return self._dead(message, "invalid", why, error, details)

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

    def _dead(
        self,
        message: Message,
        cause: str,
        why: str,
        error: BaseException | None = None,
        details: dict[str, Any] | None = None,
        duration: float = 0.0,
    ) -> DeadLetter:
        signals.emit(
            signals.message_dead,
            self._sender,
            message=message,
            error=error,
            cause=cause,
            why=why,
            duration=duration,
        )
        return DeadLetter(message, cause, why, {**_identity(message), **(details or {})})


async def _within(limit: float, work: Awaitable[None]) -> None:
    clock = asyncio.timeout(limit)
    try:
        async with clock:
            await work
    except TimeoutError:
        # A handler may raise this error, too: that one is its own.
        if clock.expired():
            raise _Overdue from None
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


def _identity(message: Message) -> dict[str, Any]:
    found = {
        "id": message.id,
        "type": message.type,
        "source": message.source or None,
        "time": message.time.isoformat() if message.time else None,
        "attempts": message.attempt,
    }
    return {name: value for name, value in found.items() if value is not None}


def _error_details(handler: Handler, error: BaseException) -> dict[str, Any]:
    trace = "".join(traceback.format_exception(error))
    return {
        "handler": handler.place,
        "error": f"{type(error).__module__}.{type(error).__qualname__}",
        "traceback": trace[-_TRACEBACK_BYTES:],
        "frame": " ".join(f"{one.file} {one.function}" for one in user_frames(error)[-1:]),
    }


def _retry_delay(handler: Handler, attempt: int, error: BaseException) -> float | None:
    """Ask the policy; a policy that fails itself must not cost the message."""
    policy = handler.policy
    try:
        wait = policy(attempt, error)
        delay = None if wait is None else seconds(wait, name="the retry delay")
        if delay is not None and isinstance(error, Retry) and error.delay is not None:
            delay = seconds(error.delay, name="Retry(delay=)")
    except Exception:
        _logger.exception("The retry policy of %s failed; the default one is used.", handler.place)
        return RetryPolicy()(attempt, error)
    return delay


def _printable(messages: Any) -> Any:
    if isinstance(messages, dict):
        return {str(key): _printable(value) for key, value in messages.items()}
    if isinstance(messages, (list, tuple)):
        return [_printable(value) for value in messages]
    return messages if isinstance(messages, (str, int, float, bool, type(None))) else str(messages)
