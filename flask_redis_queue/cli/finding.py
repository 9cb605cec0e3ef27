"""Single messages as ``flask queue peek`` and ``show`` tell of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import browse
from ..browse import Found
from ..state import AppState
from .dead import as_dict as dead_as_dict
from .lines import shorten
from .printing import moment, queues_of, raw_fields


def payload_cell(one: Found) -> str:
    """:return: The beginning of a message's payload, for a table."""
    message = one.message
    if message is None:
        return shorten(repr(one.delivery.raw[:60]), 60)
    return shorten(json.dumps(message.data, ensure_ascii=False), 60)


def find_everywhere(state: AppState, wanted: str, only: str | None) -> list[dict[str, Any]]:
    """Find a message wherever it stands.

    :param state: Whose.
    :param wanted: Its id, or either end of it.
    :param only: On this queue; ``None``: on all that the app knows.
    :return: All that match, as fields.
    """
    found: list[dict[str, Any]] = []
    for name in queues_of(state, only):
        for one in browse.everything(state.inspector.pool, name):
            if one.id and (one.id.startswith(wanted) or one.id.endswith(wanted)):
                found.append(found_as_dict(one))
        for record in state.inspector.find_dead(name, wanted):
            found.append({"place": "dead letters", **dead_as_dict(record)})
    return found


def found_as_dict(one: Found) -> dict[str, Any]:
    """:return: What is known of a message, for people and machines."""
    message = one.message
    known: Mapping[str, Any] = {}
    if message is not None:
        known = {
            "source": message.source or None,
            "time": message.time.isoformat() if message.time else None,
            "expires": message.expires.isoformat() if message.expires else None,
            "headers": dict(message.headers) or None,
            "data": message.data,
        }
    return {
        "place": one.place,
        "queue": one.delivery.queue,
        "id": one.id or None,
        "type": one.type,
        "due": moment(one.due),
        "attempts": one.delivery.attempts,
        "deaths": one.delivery.deaths,
        **known,
        **raw_fields(one.delivery),
    }
