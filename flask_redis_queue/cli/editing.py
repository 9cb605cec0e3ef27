"""What ``flask queue dead replay`` does beyond replaying: another payload, and a pace."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from ..browse import DeadLetterRecord
from ..codec import encode_json
from ..envelope import encode
from ..state import AppState

_SLICE = 0.1
"""Seconds between two slices of a paced replay."""


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
    :raises InvalidMessage: If the contract refuses the payload.
    """
    records = [one for some in chosen.values() for one in some]
    if len(records) != 1:
        raise click.UsageError("--edit is for one message: name its ID.")
    (one,) = records
    message = one.message
    if message is None or message.type is None:
        handler = state.registry.find(one.delivery.queue, None)
        untyped = handler.contract if handler is not None else None
        return {one.key: encode_json(untyped.to_wire(payload) if untyped else payload)}
    contract = state.registry.contracts.get(message.type)
    wire = contract.to_wire(payload) if contract is not None else payload
    return {one.key: encode(replace(message, data=wire), "cloudevents")}


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
