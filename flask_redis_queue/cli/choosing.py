"""Which dead letters a person means: by id, by group, or all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from ..browse import DeadLetterRecord
from ..state import AppState
from . import loading
from .lines import columns, shorten, visible
from .printing import asking, queues_of

_SHOWN = 10
"""How many are named to a person who has to decide."""


def of_group(state: AppState, only: str | None, group: str | None) -> Iterator[DeadLetterRecord]:
    """Go through dead letters, oldest first.

    :param state: Whose.
    :param only: Of this queue; ``None``: of all that the app knows.
    :param group: Of this cause; ``None``: of any.
    :return: Each.
    :raises Failure: If there is no such group.
    """
    names, found = queues_of(state, only), False
    for name in names:
        for record in state.inspector.dead_letters(name):
            if group is None or group == record.group:
                found = True
                yield record
    if group is not None and not found:
        raise loading.Failure(
            f'No group "{group}" on {", ".join(names)}. See: flask queue dead groups', 1
        )


def choose(
    context: click.Context, ids: Sequence[str], options: Mapping[str, Any]
) -> tuple[AppState, dict[str, list[DeadLetterRecord]]]:
    """Find what was named.

    :param context: Of the command.
    :param ids: As typed.
    :param options: ``everything``, ``group`` and ``only``.
    :return: Whose, and the dead letters, each once, by queue.
    """
    if bool(ids) + options["everything"] + bool(options["group"]) != 1:
        raise click.UsageError("Name the IDs, or pass --all, or --group.")
    state, only = loading.load_state(context), options["only"]
    chosen: dict[str, dict[str, DeadLetterRecord]] = {}
    with asking(state):
        named = [find_one(state, wanted, only) for wanted in ids]
        for one in named or of_group(state, only, options["group"]):
            chosen.setdefault(one.delivery.queue, {})[one.key] = one
    return state, {name: list(some.values()) for name, some in chosen.items()}


def find_one(state: AppState, wanted: str, only: str | None) -> DeadLetterRecord:
    """Find the one dead letter that a person means.

    :raises Failure: If there is none, or more than one.
    """
    if not wanted.strip():
        raise click.UsageError("The ID is empty, as of a variable that is not set. Name an ID.")
    found = [
        one for name in queues_of(state, only) for one in state.inspector.find_dead(name, wanted)
    ]
    if not found:
        raise loading.Failure(f'No dead letter "{wanted}". See: flask queue dead list', 1)
    if len(found) > 1:
        rows = [["key", *HEAD, "why"]]
        for one in found[:_SHOWN]:
            rows.append([visible(cell) for cell in (one.key, *row(one), _why(one))])
        rest = [f"{len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
        lines = "\n  ".join([*columns(rows), *rest])
        raise loading.Failure(
            f'"{wanted}" is {len(found):,} dead letters; nothing was changed. Name one by its '
            f"key:\n  {lines}",
            1,
        )
    return found[0]


HEAD = ["died", "queue", "id", "type", "tries", "cause"]


def row(one: DeadLetterRecord) -> list[str]:
    """:return: The cells of one dead letter, below :data:`HEAD`."""
    died = datetime.fromtimestamp(one.died).strftime("%Y-%m-%d %H:%M:%S")
    tries = one.meta.get("attempts", one.delivery.attempts)
    cause = str(one.meta.get("cause", ""))
    return [died, one.delivery.queue, one.id[-8:], one.type or "(untyped)", str(tries), cause]


def _why(one: DeadLetterRecord) -> str:
    return shorten(" ".join(str(one.meta.get("why", "")).split()), 60)
