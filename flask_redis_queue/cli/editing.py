"""What ``flask queue dead replay`` does beyond replaying: another payload, and a pace."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from ..browse import DeadLetterRecord
from ..codec import decode_json, encode_json
from ..exceptions import InvalidMessage
from ..state import AppState
from . import loading
from .lines import visible

_SLICE = 0.1
"""Seconds between two slices of a paced replay."""
_AS_IT_WAS = "Not replayed; the dead letter is as it was."


def edit(
    state: AppState, chosen: Mapping[str, Sequence[DeadLetterRecord]], payload: Any
) -> dict[str, bytes]:
    """Write a dead letter anew, with another payload.

    :param state: Whose contract checks the payload: of its type, or of the handler that takes what
        has none.
    :param chosen: The one dead letter, by its queue.
    :param payload: In wire form.
    :return: Its new bytes, by its key.
    :raises click.UsageError: If there is not just one.
    :raises Failure: If the contract refuses the payload, or there are too many bytes.
    """
    records = [one for some in chosen.values() for one in some]
    if len(records) != 1:
        raise click.UsageError("--edit is for one message: name its ID.")
    (one,) = records
    try:
        body = _rewrite(state, one, payload)
    except InvalidMessage as error:
        why = str(error).partition(" not sent. ")[2] or str(error)
        raise loading.Failure(f"{_AS_IT_WAS} {why}", loading.USAGE) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise loading.Failure(f"{_AS_IT_WAS} {error}", loading.USAGE) from error
    if len(body) > state.config.max_bytes:
        raise loading.Failure(
            f"{_AS_IT_WAS} With this payload it has {len(body):,} bytes, REDIS_QUEUE_MAX_BYTES "
            f"allows {state.config.max_bytes:,}. Give it less, or raise the limit on both sides.",
            loading.USAGE,
        )
    return {one.key: body}


def _rewrite(state: AppState, one: DeadLetterRecord, payload: Any) -> bytes:
    message = one.message
    if message is None or message.type is None:
        handler = state.registry.find(one.delivery.queue, None)
        untyped = handler.contract if handler is not None else None
        return encode_json(untyped.to_wire(payload) if untyped else payload)
    contract = state.registry.contracts.get(message.type)
    wire = contract.to_wire(payload) if contract is not None else payload
    # The event as its sender wrote it: what this package does not read is kept, too.
    event = decode_json(one.delivery.raw)
    event.pop("data_base64", None)
    return encode_json({**event, "data": wire})


def without_expired(
    state: AppState, chosen: Mapping[str, Sequence[DeadLetterRecord]], *, named: bool
) -> dict[str, list[DeadLetterRecord]]:
    """Leave out what a consumer would drop as expired, and say so.

    :param state: Whose.
    :param chosen: What is to be replayed.
    :param named: Whether each was named by its id.
    :return: The rest.
    :raises Failure: If one of those that were named has expired.
    """
    rest: dict[str, list[DeadLetterRecord]] = {}
    for queue, records in chosen.items():
        gone = [one for one in records if _has_expired(state, one)]
        if gone and named:
            raise loading.Failure(f"Not replayed: {_expired(queue, gone)} Nothing changed.", 1)
        if gone:
            click.echo(visible(_expired(queue, gone)), err=True)
        rest[queue] = [one for one in records if one not in gone]
    return {queue: records for queue, records in rest.items() if records}


def _has_expired(state: AppState, one: DeadLetterRecord) -> bool:
    expires = one.message.expires if one.message is not None else None
    return expires is not None and expires.timestamp() <= state.broker.server_time()


def _expired(queue: str, gone: Sequence[DeadLetterRecord]) -> str:
    if len(gone) == 1:
        what = f"1 dead letter of {queue} has expired"
        ids = gone[0].id
    else:
        what = f"{len(gone):,} dead letters of {queue} have expired"
        ids = f"{gone[0].id} and others"
    return (
        f"{what} ({ids}): a consumer would drop what is brought back now, and --edit does not "
        "change the time. To have it done after all, send the data anew: flask queue dead show, "
        "flask queue send."
    )


def check_rate(
    context: click.Context, parameter: click.Parameter, value: float | None
) -> float | None:
    """Refuse a rate that is no pace.

    :param context: Of the command.
    :param parameter: The option.
    :param value: A second; ``None``: at once.
    :return: The same.
    :raises click.BadParameter: For ``inf`` and ``nan``.
    """
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("Use a number, such as 20: so many a second.", context, parameter)
    return value


def paced(keys: Sequence[str], rate: float | None) -> Iterator[Sequence[str]]:
    """Go through keys in slices, so that no more than so many pass a second.

    :param keys: All of them.
    :param rate: A second; ``None``: at once.
    :return: Slices.
    """
    if rate is None:
        yield keys
        return
    size = max(1, round(rate * _SLICE))
    for start in range(0, len(keys), size):
        if start:
            time.sleep(size / rate)
        yield keys[start : start + size]
