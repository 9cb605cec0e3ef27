"""What becomes of a message whose run has failed.

Called when the handler has ended and nothing may interrupt any more. It always has an answer:
trouble with an exception's own text, a policy or a receiver costs neither message nor consumer.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from marshmallow import ValidationError

from . import signals
from .durations import seconds, text
from .envelope import Message
from .exceptions import Reject, Retry
from .functions import text_of, user_frames
from .guard import Interrupted, TimedOut
from .handlers import Handler
from .outcomes import DeadLetter, HandBack, Outcome, Paused, RetryLater
from .retry import RetryPolicy
from .schemas import describe, normalized

_logger = logging.getLogger("flask_redis_queue")
_TRACEBACK_BYTES = 16_000


class Overdue(Exception):
    """A coroutine was cancelled because it ran for too long."""


class Unloadable(Exception):
    """The Schema refuses the payload.

    :param reason: What it said.
    """

    def __init__(self, reason: ValidationError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Judge:
    """Judges failures, and tells of them.

    :param sender: The app, for signals.
    :param is_to_blame: Whether a message is at fault, whatever of the surroundings it names.
    """

    def __init__(self, sender: object, is_to_blame: Callable[[Message], bool]) -> None:
        self._sender = sender
        self._is_to_blame = is_to_blame

    def judge(
        self, handler: Handler, message: Message, error: BaseException, duration: float
    ) -> Outcome:
        """Say what becomes of a message.

        :param handler: Whose run failed.
        :param message: What it was given.
        :param error: What came out of it.
        :param duration: Seconds that it took.
        :return: The outcome.
        """
        try:
            return self._judge(handler, message, error, duration)
        except Exception:
            _logger.exception("%s failed, and judging that failed, too.", message.id)
            delay = RetryPolicy()(message.attempt, error)
            if delay is not None:
                return RetryLater(message, delay)
            return DeadLetter(message, "failed", type(error).__name__, identity(message))

    def dead(
        self,
        message: Message,
        cause: str,
        why: str,
        error: BaseException | None = None,
        details: dict[str, Any] | None = None,
        duration: float = 0.0,
    ) -> DeadLetter:
        """Make a dead letter, and tell of it.

        :param message: What dies.
        :param cause: See :class:`.DeadLetter`.
        :param why: A sentence.
        :param error: What led to it, if anything was raised.
        :param details: What else a person wants to know.
        :param duration: Seconds that its last run took.
        :return: The outcome.
        """
        signals.emit(
            signals.message_dead,
            self._sender,
            message=message,
            error=error,
            cause=cause,
            why=why,
            duration=duration,
        )
        return DeadLetter(message, cause, why, {**identity(message), **(details or {})})

    def _judge(
        self, handler: Handler, message: Message, error: BaseException, duration: float
    ) -> Outcome:
        if isinstance(error, Unloadable):
            return self._invalid(handler, message, error.reason)
        if isinstance(error, (TimedOut, Overdue)):
            # Of the surroundings' errors it is none, whatever pause_on= names: it counts a run.
            late = _too_late(handler, error)
            return self._failed(handler, message, late, handler.timeout or duration)
        if isinstance(error, Interrupted):
            return HandBack()
        is_outside = isinstance(error, handler.pause_on) and not isinstance(error, (Reject, Retry))
        if is_outside and not self._is_to_blame(message):
            return Paused(message, error)
        return self._failed(handler, message, error, duration)

    def _failed(
        self, handler: Handler, message: Message, error: BaseException, duration: float
    ) -> Outcome:
        details = _error_details(handler, error)
        said = text_of(error)
        if isinstance(error, Reject):
            return self.dead(message, "rejected", said, error, details, duration)
        why = f"{type(error).__name__}: {said}" if said else type(error).__name__
        if isinstance(error, handler.dead_on) and not isinstance(error, Retry):
            return self.dead(message, "failed", why, error, details, duration)
        delay = _retry_delay(handler, message.attempt, error)
        if delay is None:
            return self.dead(message, "failed", why, error, details, duration)
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
        return self.dead(message, "invalid", why, error, details)


def identity(message: Message) -> dict[str, Any]:
    """:return: What a dead letter tells of its message."""
    found = {
        "id": message.id,
        "type": message.type,
        "source": message.source or None,
        "time": message.time.isoformat() if message.time else None,
        "attempts": message.attempt,
    }
    return {name: value for name, value in found.items() if value is not None}


def _too_late(handler: Handler, error: BaseException) -> TimeoutError:
    """:return: What the user reads, with the place where the handler was when its time was over."""
    limit = text(handler.timeout or 0.0)
    found = TimeoutError(f"the handler ran longer than its timeout of {limit}")
    return found.with_traceback(_innermost(error))


def _innermost(error: BaseException) -> TracebackType | None:
    # A coroutine is cancelled, and what its caller gets has the cancellation behind it.
    while error.__cause__ is not None:
        error = error.__cause__
    return error.__traceback__


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
    except BaseException:  # sys.exit() in it, too, ends no consumer
        _logger.exception("The retry policy of %s failed; the default one is used.", handler.place)
        return RetryPolicy()(attempt, error)
    return delay


def _printable(messages: Any) -> Any:
    if isinstance(messages, dict):
        return {str(key): _printable(value) for key, value in messages.items()}
    if isinstance(messages, (list, tuple)):
        return [_printable(value) for value in messages]
    return messages if isinstance(messages, (str, int, float, bool, type(None))) else str(messages)
