"""What becomes of a message that was delivered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .envelope import Message
from .protocol import Settlement

_WHY_CHARACTERS = 1_000


@dataclass(slots=True)
class Ack:
    """The handler returned."""

    message: Message


@dataclass(frozen=True, slots=True)
class Expired:
    """Its time had passed; nobody handles it."""

    message: Message


@dataclass(frozen=True, slots=True)
class HandBack:
    """It was not handled; somebody else may have it, and it cost no attempt."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The trouble is not the message's fault: it goes back, and its queue rests for a while.

    :param error: What the handler raised.
    """

    message: Message
    error: BaseException


@dataclass(frozen=True, slots=True)
class RetryLater:
    """It failed and comes again.

    :param delay: Seconds from now.
    """

    message: Message
    delay: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """It is kept for a person to look at.

    :param cause: ``malformed``, ``unknown type``, ``invalid``, ``rejected`` or ``failed``.
    :param why: A sentence.
    :param details: What else a person wants to know, as JSON values.
    """

    message: Message | None
    cause: str
    why: str
    details: dict[str, Any] = field(default_factory=dict)

    def meta(self) -> dict[str, Any]:
        """:return: What is stored beside the bytes."""
        return {"cause": self.cause, "why": self.why[:_WHY_CHARACTERS], **self.details}


Outcome = Ack | Expired | HandBack | Paused | RetryLater | DeadLetter


def settle(settlement: Settlement, tag: str, outcome: Outcome, consumer: str) -> None:
    """Note an outcome among what the next turn settles.

    :param settlement: Where.
    :param tag: The delivery's tag.
    :param outcome: What became of it.
    :param consumer: Who says so, for the dead letter.
    """
    match outcome:
        case Ack():
            settlement.handled.append(tag)
        case Expired():
            settlement.expired.append(tag)
        case RetryLater(_, delay):
            settlement.retried.append((tag, round(delay * 1000)))
        case DeadLetter():
            meta = {**outcome.meta(), "consumer": consumer}
            settlement.dead.append((tag, json.dumps(meta)))
        case HandBack() | Paused():
            settlement.handed_back.append(tag)
