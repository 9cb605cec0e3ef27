"""The sender's room: a payload is validated, written, and stored once.

One request carries its own identity (the message's id), so that it may be repeated while Redis
does not answer, and the list still holds one copy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from marshmallow import Schema
from redis.exceptions import RedisError

from . import clients, diagnosis, signals, unsent
from .broker import SEEN_MS, Broker
from .config import Config
from .contracts import Contract, contract_of
from .envelope import Format, Message, encode, new_id
from .exceptions import (
    InvalidMessage,
    MessageTooLarge,
    QueueFull,
    QueueUnavailable,
    UnknownMessage,
)
from .options import Options, SentMessage
from .protocol import SendRequest
from .registry import Registry

_CHUNK_MESSAGES = 256
_CHUNK_BYTES = 512 * 1024


class Publisher:
    """Sends for one app.

    :param config: Its settings.
    :param broker: Its queues.
    :param source: What its messages call it (CloudEvents ``source``).
    :param sender: The app, for signals.
    """

    def __init__(self, config: Config, broker: Broker, source: str, sender: object) -> None:
        self._config = config
        self._broker = broker
        self._source = quote(source, safe="/._-~:") or "app"
        self._sender = sender

    def send(
        self, registry: Registry, contract: object, payload: Any, options: Options
    ) -> SentMessage:
        """Send one message.

        :param registry: What the app knows.
        :param contract: A schema, a type name, or ``None``: by the queue.
        :param payload: A mapping in wire form, or an object to dump.
        :param options: How.
        :return: What was sent.
        """
        found, queue = self._address(registry, contract, options.queue)
        message, body = self._write(found, queue, payload, options)
        explicit = options.id is not None
        window = options.dedup_window or self._config.dedup_window
        dedup = None if options.dedup is None else (options.dedup, _ms(window))
        request = SendRequest(
            queue,
            message.id,
            _token(),
            _ms(self._config.dedup_window) if explicit else SEEN_MS,
            message.id,
            (body,),
            _ms(options.delay),
            dedup,
        )
        status, first = self._store(
            request, message.type, message.id if self._format(found) == "cloudevents" else None
        )
        sent = SentMessage(first, message.type, queue, status != "ok")
        if status == "ok" and signals.message_sent.receivers:
            signals.emit(signals.message_sent, self._sender, message=message)
        return sent

    def prepare(
        self, registry: Registry, contract: object, payload: Any, options: Options
    ) -> tuple[Message, bytes]:
        """Address, validate and write one message, as :meth:`send` does; it goes nowhere.

        :return: The message, and the bytes that stand for it.
        """
        found, queue = self._address(registry, contract, options.queue)
        return self._write(found, queue, payload, options)

    def send_many(
        self, registry: Registry, contract: object, payloads: Iterable[Any], options: Options
    ) -> list[SentMessage]:
        """Send many: all are validated first, then stored chunk by chunk.

        :return: One for each payload, in order.
        """
        if options.id is not None or options.dedup is not None:
            raise ValueError("id= and dedup= name one message; send_many takes neither.")
        found, queue = self._address(registry, contract, options.queue)
        written: list[tuple[Message, bytes]] = []
        invalid: dict[int, Any] = {}
        first_error = ""
        for index, payload in enumerate(payloads):
            try:
                written.append(self._write(found, queue, payload, options))
            except InvalidMessage as error:
                first_error = first_error or f"Payload {index}: {error.args[0]}"
                invalid[index] = error.messages
        if invalid:
            raise InvalidMessage(f"None of the messages was sent. {first_error}", invalid)
        sent: list[SentMessage] = []
        for chunk in _chunks(written):
            self._send_chunk(queue, chunk, options, sent)
        return sent

    def _send_chunk(
        self,
        queue: str,
        chunk: Sequence[tuple[Message, bytes]],
        options: Options,
        sent: list[SentMessage],
    ) -> None:
        first = chunk[0][0]
        bodies = [body for _, body in chunk]
        request = SendRequest(
            queue, first.id, _token(), SEEN_MS, first.id, bodies, _ms(options.delay)
        )
        try:
            self._store(request, first.type, None)
        except (QueueUnavailable, QueueFull) as error:
            error.sent = list(sent)
            raise
        sent.extend(SentMessage(message.id, message.type, queue) for message, _ in chunk)
        if signals.message_sent.receivers:
            for message, _ in chunk:
                signals.emit(signals.message_sent, self._sender, message=message)

    def _address(
        self, registry: Registry, contract: object, queue: str | None
    ) -> tuple[Contract | None, str]:
        found: Contract | None
        if isinstance(contract, str):
            found = registry.contract(contract)
        elif isinstance(contract, type) and issubclass(contract, Schema):
            found = contract_of(contract)
            if found is None:
                raise UnknownMessage(
                    f"{contract.__name__} is no @message schema, so it was not sent. "
                    'Decorate it with @message("its.type").'
                )
        elif contract is None:
            where = queue or registry.default_queue
            candidates = registry.contracts_on(where)
            if len(candidates) > 1:
                names = ", ".join(sorted(c.type for c in candidates))
                raise UnknownMessage(
                    f"{where} carries several messages ({names}), so send(payload) cannot tell "
                    "which it is. Nothing was stored. Use send(contract, payload)."
                )
            found = candidates[0] if candidates else None
            return found, where
        else:
            raise UnknownMessage(
                f"{contract!r} is neither a @message schema nor a type name. Nothing was stored."
            )
        return found, queue or registry.queue_of(found)

    def _write(
        self, contract: Contract | None, queue: str, payload: Any, options: Options
    ) -> tuple[Message, bytes]:
        format = self._format(contract)
        if format == "plain":
            self._refuse_with_plain(options)
        name = contract.type if contract else None
        message = Message(
            id=options.id or new_id(),
            type=name,
            queue=queue,
            data=contract.to_wire(payload) if contract else payload,
            source=self._source,
            time=datetime.now(UTC),
            expires=self._expiry(options, name or "The message"),
            headers=options.headers or {},
        )
        body = _encode(message, format, name)
        if len(body) > self._config.max_bytes:
            raise MessageTooLarge(
                f"{name or 'The message'} was NOT sent: it has {len(body):,} bytes, "
                f"REDIS_QUEUE_MAX_BYTES allows {self._config.max_bytes:,}. Nothing was stored. "
                "Send a reference to the data, or raise the limit on both sides."
            )
        return message, body

    def _format(self, contract: Contract | None) -> Format:
        # An event needs a type; what has none travels as the bare payload.
        return (contract.format or self._config.format) if contract else "plain"

    def _expiry(self, options: Options, name: str) -> datetime | None:
        if options.expires is None:
            return None
        deadline = time.monotonic() + self._config.send_timeout
        try:
            now = clients.repeat(self._broker.server_time, deadline)
        except (diagnosis.NotSent, RedisError) as error:
            raise unsent.unavailable(error, self._config, name) from error
        return datetime.fromtimestamp(now + options.expires, UTC)

    @staticmethod
    def _refuse_with_plain(options: Options) -> None:
        for name in ("expires", "headers", "id"):
            if getattr(options, name) is not None:
                raise ValueError(f"{name}= needs the cloudevents format; plain carries no {name}.")
        if options.delay:
            raise ValueError("delay= needs the cloudevents format; plain carries no id.")

    def _store(self, request: SendRequest, name: str | None, id: str | None) -> tuple[str, str]:
        deadline = time.monotonic() + self._config.send_timeout
        try:
            status, first = clients.repeat(lambda: self._broker.send(request), deadline)
        except (diagnosis.NotSent, RedisError) as error:
            raise unsent.unavailable(error, self._config, name, request, id) from error
        if status == "full":
            raise unsent.full(self._config, name, request.queue)
        return status, first


def _encode(message: Message, format: Format, name: str | None) -> bytes:
    data = message.data
    if format == "plain" and isinstance(data, dict) and {"specversion", "type"} <= data.keys():
        raise InvalidMessage(
            f'{name or "The message"} not sent. A bare payload with "specversion" and "type" would '
            "be read as an event. Use the cloudevents format."
        )
    try:
        return encode(message, format)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidMessage(f"{name or 'The message'} not sent. {error}") from error


def _chunks(
    written: Sequence[tuple[Message, bytes]],
) -> Iterator[Sequence[tuple[Message, bytes]]]:
    start = size = 0
    for index, (_, body) in enumerate(written):
        if index > start and (index - start >= _CHUNK_MESSAGES or size + len(body) > _CHUNK_BYTES):
            yield written[start:index]
            start, size = index, 0
        size += len(body)
    if start < len(written):
        yield written[start:]


def _ms(value: float) -> int:
    return max(1, round(value * 1000)) if value > 0 else 0


def _token() -> str:
    return os.urandom(8).hex()
