"""What is open while a message is handled: the app's context, and ``current_message``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import datetime
from types import TracebackType
from typing import Any, cast

from flask import Flask
from werkzeug.local import LocalProxy

from .envelope import Message


class CurrentMessage:
    """The message that is being handled; its Schema has not loaded ``raw`` for this."""

    __slots__ = ("_app", "_logger", "_message")

    def __init__(self, app: Flask, message: Message) -> None:
        self._app = app
        self._message = message
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def id(self) -> str:
        """:return: Its id, unique for its source."""
        return self._message.id

    @property
    def type(self) -> str | None:
        """:return: Its type; ``None``: a bare payload."""
        return self._message.type

    @property
    def queue(self) -> str:
        """:return: The queue it came on."""
        return self._message.queue

    @property
    def attempt(self) -> int:
        """:return: Which run of the handler this is, from 1."""
        return self._message.attempt

    @property
    def headers(self) -> Mapping[str, Any]:
        """:return: The sender's headers."""
        return self._message.headers

    @property
    def time(self) -> datetime | None:
        """:return: When it was sent, by the sender's clock."""
        return self._message.time

    @property
    def expires(self) -> datetime | None:
        """:return: The moment after which nobody may handle it."""
        return self._message.expires

    @property
    def source(self) -> str:
        """:return: The app that sent it; ``""``: a bare payload does not say."""
        return self._message.source

    @property
    def raw(self) -> bytes:
        """:return: The exact bytes in Redis."""
        return self._message.raw

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """:return: The app's logger; each line names this message."""
        if self._logger is None:
            self._logger = _MessageLogger(
                self._app.logger, {"message_id": self.id, "message_type": self.type}
            )
        return self._logger

    def __repr__(self) -> str:
        return f"<CurrentMessage {self.type} {self.id} attempt {self.attempt}>"


class _MessageLogger(logging.LoggerAdapter[logging.Logger]):
    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        extra = self.extra or {}
        kwargs["extra"] = {**extra, **kwargs.get("extra", {})}
        return f"[{extra['message_type'] or 'untyped'} {extra['message_id']}] {msg}", kwargs


_current: ContextVar[CurrentMessage] = ContextVar("flask_redis_queue.current_message")

current_message: CurrentMessage = cast(
    CurrentMessage,
    LocalProxy(
        _current,
        unbound_message=(
            "No message is being handled here. current_message works inside a handler, and in "
            "what it calls."
        ),
    ),
)
"""The message that is being handled in this context."""


@contextmanager
def handling(app: Flask, message: Message) -> Iterator[CurrentMessage]:
    """Open ``current_message`` alone, in whatever context there is.

    :param app: The real app.
    :param message: Which message.
    :return: What ``current_message`` stands for.
    """
    current = CurrentMessage(app, message)
    token = _current.set(current)
    try:
        yield current
    finally:
        _current.reset(token)


class MessageContext:
    """Opens the app's context and ``current_message`` for one message, and tears both down.

    :param app: The real app.
    :param message: Which message.
    """

    __slots__ = ("_app", "_context", "_message", "_token")

    def __init__(self, app: Flask, message: Message) -> None:
        self._app = app
        self._message = message

    def __enter__(self) -> None:
        self._token: Token[CurrentMessage] = _current.set(CurrentMessage(self._app, self._message))
        self._context = self._app.app_context()
        self._context.push()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._context.pop(error)
        finally:
            _current.reset(self._token)
