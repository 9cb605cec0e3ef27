"""Every error this package raises. Each says what happened, on what, whether anything was
stored, and what to do; the default message of a class is its docstring's first line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from marshmallow import ValidationError

if TYPE_CHECKING:
    from .durations import Duration


class RedisQueueError(Exception):
    """Something went wrong in the queue."""

    error_code = "redis_queue_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])


class ConfigurationError(RedisQueueError):
    """The app's queue is not set up as it must be."""

    error_code = "configuration"


class QueueUnavailable(RedisQueueError):
    """Redis could not be reached, or did not answer in time.

    :param message: What happened.
    :param stored: ``"no"``: nothing reached Redis. ``"unknown"``: the request left, no answer came;
        sending again with the same ``id=`` or ``dedup=`` is safe.
    :param id: The id of the message, to send again with; ``None``: plain, or one of many.
    :param sent: For ``send_many``: the messages of the chunks that were stored before.
    """

    error_code = "queue_unavailable"

    def __init__(
        self,
        message: str | None = None,
        *,
        stored: Literal["no", "unknown"] = "no",
        id: str | None = None,
        sent: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.stored = stored
        self.id = id
        self.sent = list(sent)


class QueueRefused(QueueUnavailable):
    """Redis refused the login or a command; trying again will not help."""

    error_code = "queue_refused"


class QueueFull(RedisQueueError):
    """The queue holds REDIS_QUEUE_MAX_LENGTH messages. Nothing was stored.

    For ``send_many``, ``sent`` holds the messages of the chunks that were stored before.
    """

    error_code = "queue_full"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)
        self.sent: list[Any] = []


class MessageTooLarge(RedisQueueError):
    """The message is larger than REDIS_QUEUE_MAX_BYTES. Nothing was stored."""

    error_code = "message_too_large"


class UnknownMessage(RedisQueueError):
    """This app knows no such message."""

    error_code = "unknown_message"


class InvalidMessage(ValidationError, RedisQueueError):
    """A payload that its contract refuses; marshmallow's error handlers answer it with 400.

    :param message: The sentence.
    :param messages: marshmallow's dict of field errors; for ``send_many`` ``{index: {…}}``.
    """

    error_code = "invalid_message"

    def __init__(self, message: str, messages: Mapping[Any, Any] | None = None) -> None:
        # marshmallow's own __init__ makes `messages` of the text; the sentence is for people.
        ValidationError.__init__(self, message)
        self.messages = dict(messages) if messages is not None else {"_schema": [message]}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.messages)


class Retry(Exception):
    """Raise it in a handler to have the message again; it counts as an attempt.

    :param delay: How long to wait. ``None``: what the handler's retry policy says.
    """

    def __init__(self, delay: Duration | None = None) -> None:
        super().__init__("the handler asked for a retry")
        self.delay = delay


class Reject(Exception):
    """Raise it in a handler to make the message a dead letter at once.

    :param why: The cause that ``flask queue dead list`` shows.
    """

    def __init__(self, why: str = "the handler rejected it") -> None:
        super().__init__(why)
