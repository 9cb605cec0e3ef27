"""Which sent message a test means; and if there is none, which comes nearest."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..contracts import Contract
from ..envelope import Message

_MISSING = object()


def require(
    sent: Sequence[Message], name: str, contract: Contract | None, subset: Mapping[str, Any]
) -> Message:
    """Find a message.

    :param sent: What was sent.
    :param name: The type that it must have.
    :param contract: The type's contract, if the app knows it.
    :param subset: Field values that it must have, as sent or as the Schema loads them.
    :return: The first that has all of them.
    :raises AssertionError: If there is none; it shows the nearest.
    """
    __tracebackhide__ = True
    found = [one for one in sent if one.type == name]
    for one in found:
        if not _differing(one, contract, subset):
            return one
    if not found:
        raise AssertionError(f"No {name} was sent. {_overview(sent)}")
    raise AssertionError(
        f"No {name} with these fields was sent. The nearest of {len(found)} "
        f"(- wanted, + sent):\n{_nearest(found, contract, subset)}"
    )


def refuse(
    sent: Sequence[Message], name: str | None, contract: Contract | None, subset: Mapping[str, Any]
) -> None:
    """See that there is no such message.

    :param sent: What was sent.
    :param name: Its type; ``None``: any.
    :param contract: The type's contract, if the app knows it.
    :param subset: Field values that it would have.
    :raises AssertionError: If there is one.
    """
    __tracebackhide__ = True
    for one in sent:
        if name in (None, one.type) and not _differing(one, contract, subset):
            raise AssertionError(f"{one.type or 'An untyped message'} was sent: {one.data!r}")


def _nearest(
    messages: Sequence[Message], contract: Contract | None, subset: Mapping[str, Any]
) -> str:
    # Of equals the last: a test mostly asks for what it has just done.
    best = min(reversed(messages), key=lambda one: len(_differing(one, contract, subset)))
    differing = _differing(best, contract, subset)
    sent = best.data if isinstance(best.data, Mapping) else {"(payload)": best.data}
    wanted = {**sent, **{name: subset[name] for name in differing}}
    lines = difflib.ndiff(_pretty(wanted), _pretty(sent))
    return "\n".join(line for line in lines if not line.startswith("?"))


def _overview(messages: Sequence[Message]) -> str:
    if not messages:
        return "Nothing was sent."
    counts = Counter(message.type or "(untyped)" for message in messages)
    listed = ", ".join(name if n == 1 else f"{name} ({n})" for name, n in counts.items())
    return f"Sent: {listed}."


def _differing(message: Message, contract: Contract | None, subset: Mapping[str, Any]) -> list[str]:
    wire = message.data if isinstance(message.data, Mapping) else {}
    wrong = [name for name, value in subset.items() if wire.get(name, _MISSING) != value]
    if wrong and contract is not None:
        loaded = contract.load(message.data)
        if isinstance(loaded, Mapping):
            wrong = [name for name in wrong if loaded.get(name, _MISSING) != subset[name]]
    return wrong


def _pretty(value: Any) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=repr).split("\n")
