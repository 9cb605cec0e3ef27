"""What ``send`` is given and what it returns, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from .durations import Duration, seconds
from .envelope import check_headers
from .keys import check_queue_name


class SendOptions(TypedDict, total=False):
    """The options of one ``send``, as a user gives them."""

    queue: str | None
    delay: Duration | None
    expires: Duration | None
    headers: Mapping[str, str | int] | None
    id: str | None
    dedup: str | None
    dedup_window: Duration | None


@dataclass(frozen=True, slots=True)
class SentMessage:
    """What ``send`` returns.

    :param id: The message's id; of a duplicate, the first one's.
    :param type: Its type; ``None``: untyped.
    :param queue: Where it went.
    :param duplicate: Whether this send stored nothing, because an earlier one had.
    """

    id: str
    type: str | None
    queue: str
    duplicate: bool | None = False


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one ``send``, checked."""

    queue: str | None = None
    delay: float = 0.0
    expires: float | None = None
    headers: Mapping[str, Any] | None = None
    id: str | None = None
    dedup: str | None = None
    dedup_window: float | None = None


def check_options(
    *,
    queue: str | None = None,
    delay: Duration | None = None,
    expires: Duration | None = None,
    headers: Mapping[str, Any] | None = None,
    id: str | None = None,
    dedup: str | None = None,
    dedup_window: Duration | None = None,
) -> Options:
    """Check what a user gave ``send``.

    :return: The options.
    :raises ValueError: For a value that is not allowed.
    """
    for name, value in (("id", id), ("dedup", dedup)):
        if value is not None and not (
            isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
        ):
            raise ValueError(f"{name} is {value!r}. Use 1 to 200 printable characters.")
    if dedup_window is not None and dedup is None:
        raise ValueError("dedup_window= says how long dedup= holds; pass dedup= with it.")
    return Options(
        check_queue_name(queue) if queue is not None else None,
        seconds(delay, name="delay") if delay is not None else 0.0,
        _positive(expires, "expires"),
        check_headers(headers) if headers else None,
        id,
        dedup,
        _positive(dedup_window, "dedup_window"),
    )


def _positive(value: Duration | None, name: str) -> float | None:
    if value is None:
        return None
    found = seconds(value, name=name)
    if found < 0.001:
        raise ValueError(f"{name} is {value!r}. Use at least 1ms.")
    return found
