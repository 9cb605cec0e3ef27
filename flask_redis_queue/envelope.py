"""Messages as bytes: CloudEvents 1.0 structured mode, and the bare payload (``plain``).

``docs/wire-format.md`` is the specification of both.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from .codec import decode_json, encode_json

Format = Literal["cloudevents", "plain"]
FORMATS: tuple[Format, ...] = ("cloudevents", "plain")

_CORE = frozenset(
    {
        *("specversion", "id", "source", "type", "subject", "time", "datacontenttype"),
        *("dataschema", "data", "data_base64", "expirytime"),
    }
)
_HEADER = re.compile(r"[a-z0-9]{1,40}", re.ASCII)
_NUMBER_LIMITS = (-(2**31), 2**31 - 1)


class Malformed(Exception):
    """Bytes that are neither an event nor JSON; its text says why."""


@dataclass(slots=True)  # a frozen one takes six times as long to make
class Message:
    """One message, on its way out or in.

    :param id: Unique for its source.
    :param type: Its contract's name; ``None`` for a bare payload.
    :param queue: The queue it travels on.
    :param data: The payload, as JSON values.
    :param source: The app that sent it; ``""`` if unknown.
    :param time: When it was sent, by the sender's clock.
    :param expires: After this moment, by the server's clock, nobody may handle it.
    :param headers: The sender's own CloudEvents extension attributes.
    :param attempt: Which run of the handler this is, from 1; 0 on its way out.
    :param raw: The exact bytes in Redis.
    """

    id: str
    type: str | None
    queue: str
    data: Any
    source: str = ""
    time: datetime | None = None
    expires: datetime | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    raw: bytes = b""


class Delivery(NamedTuple):
    """A message as one consumer holds it, undecoded.

    :param queue: The queue.
    :param tag: What this consumer's turn calls it.
    :param birth: What nothing else in the queue was ever called; the id of a plain message.
    :param attempts: How often its handler failed before.
    :param deaths: How often a consumer vanished with it.
    :param first: Server time in ms when it was first taken.
    :param raw: The exact bytes.
    """

    queue: str
    tag: str
    birth: str
    attempts: int
    deaths: int
    first: int
    raw: bytes


def parse_delivery(queue: str, tag: str, stored: bytes) -> Delivery:
    """Split what the scripts store into our header line and the exact bytes.

    :param queue: The queue.
    :param tag: The delivery tag.
    :param stored: Header line and bytes, as ``lua/_common.lua`` packs them.
    :return: The delivery.
    """
    head, _, raw = stored.partition(b"\n")
    birth, attempts, deaths, first = head.split(b" ")
    return Delivery(queue, tag, birth.decode(), int(attempts), int(deaths), int(first), raw)


def new_id() -> str:
    """Make a UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix ms, then random bits.

    :return: The id in its usual form of 36 characters.
    """
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    h = f"{value:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def check_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse headers that CloudEvents does not allow as extension attributes.

    :param headers: Names of lower-case letters and digits; strings, booleans, 32-bit integers.
    :return: A copy.
    :raises ValueError: If a name or a value is not allowed.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise ValueError(
                f"The header name {name!r} is not allowed. Use lower-case letters and digits only, "
                "40 at most, as CloudEvents asks."
            )
        if name in _CORE:
            raise ValueError(f"The header name {name!r} belongs to CloudEvents. Use another name.")
        if isinstance(value, int) and _NUMBER_LIMITS[0] <= value <= _NUMBER_LIMITS[1]:
            continue
        if not isinstance(value, str):
            raise ValueError(
                f"The header {name!r} is {value!r}. Use a string, a boolean or a 32-bit integer."
            )
    return dict(headers)


def encode(message: Message, format: Format) -> bytes:
    """Write a message the way it travels.

    :param message: What to write.
    :param format: ``"cloudevents"``, or ``"plain"`` for the bare payload.
    :return: The bytes of the list element.
    :raises ValueError: For a value that JSON cannot carry.
    :raises TypeError: For a type that JSON does not have.
    """
    if format == "plain":
        return encode_json(message.data)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": message.id,
        "source": message.source,
        "type": message.type,
    }
    if message.time is not None:
        event["time"] = _write_time(message.time)
    if message.expires is not None:
        event["expirytime"] = _write_time(message.expires)
    event.update(message.headers)
    event["datacontenttype"] = "application/json"
    event["data"] = message.data
    return encode_json(event)


def decode(delivery: Delivery) -> Message:
    """Read what came from Redis: an event, or any other JSON value as an untyped payload.

    :param delivery: The bytes and what the queue knows of them.
    :return: The message.
    :raises Malformed: If it is neither; the text says why.
    """
    value = _decode_json(delivery.raw)
    if isinstance(value, dict) and "specversion" in value and "type" in value:
        return _read_event(delivery, value)
    return Message(
        id=delivery.birth,
        type=None,
        queue=delivery.queue,
        data=value,
        attempt=delivery.attempts + 1,
        raw=delivery.raw,
    )


def _read_event(delivery: Delivery, event: dict[str, Any]) -> Message:
    if event["specversion"] != "1.0":
        raise Malformed(f'CloudEvents specversion is {event["specversion"]!r}, not "1.0"')
    for name in ("id", "source", "type"):
        if not isinstance(event.get(name), str) or not event[name]:
            raise Malformed(f'the event has no "{name}"')
    return Message(
        id=event["id"],
        type=event["type"],
        queue=delivery.queue,
        data=_read_data(event),
        source=event["source"],
        time=_read_time(event, "time"),
        expires=_read_time(event, "expirytime"),
        headers={k: event[k] for k in event.keys() - _CORE},
        attempt=delivery.attempts + 1,
        raw=delivery.raw,
    )


def _read_data(event: dict[str, Any]) -> Any:
    if "data_base64" not in event:
        return event.get("data")
    try:
        return _decode_json(base64.b64decode(event["data_base64"], validate=True))
    except (TypeError, ValueError) as error:
        raise Malformed("data_base64 is not base64") from error


def _write_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_time(event: dict[str, Any], name: str) -> datetime | None:
    written = event.get(name)
    if written is None:
        return None
    try:
        value = datetime.fromisoformat(written)
        if value.tzinfo is UTC:
            return value
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise Malformed(f'"{name}" is not an RFC 3339 time') from error


def _decode_json(raw: bytes) -> Any:
    try:
        return decode_json(raw)
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except UnicodeEncodeError as error:
        raise Malformed("a string holds half of a surrogate pair") from error
    except RecursionError as error:
        raise Malformed("nested too deeply") from error
    except ValueError as error:
        raise Malformed(f"not JSON: {error}") from error
