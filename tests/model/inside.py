"""What the tests know of the inside of a subscription, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from flask_redis_queue.board import Report
from flask_redis_queue.envelope import Delivery
from flask_redis_queue.protocol import TurnRequest
from flask_redis_queue.subscription import Subscription

INCARNATION = 1_000_000
"""The first incarnation of a queue begins at sequence 0, the next one here, and so on."""


def ready(one: Subscription) -> Sequence[Delivery]:
    """:return: What waits to be run."""
    return one._holds.ready


def running(one: Subscription) -> list[Delivery]:
    """:return: What a handler has."""
    return list(one._holds.running.values())


def seq(one: Subscription) -> int:
    """:return: The number of its last turn."""
    return one._seq


def turns(one: Subscription) -> int:
    """:return: How many turns its incarnation has had, numbers that a resync skipped among them."""
    return one._seq % INCARNATION


def unsettled(one: Subscription) -> set[str]:
    """:return: Names of messages whose outcome the server has not confirmed."""
    outcomes = (*one._holds._in_flight, *one._holds._unsettled)
    return {str(getattr(outcome, "message", "")) for outcome in outcomes}


def pending(one: Subscription) -> TurnRequest | None:
    """:return: The request that it must repeat."""
    return one._pending


def entering(one: Subscription) -> str:
    """:return: As whom it tries to enter."""
    return one._entering


def must_be_alone(delivery: Delivery) -> bool:
    """:return: Whether it took a consumer down, and so must come to one that holds nothing else."""
    return delivery.deaths > 0


def report(one: Subscription) -> Report:
    """:return: What a supervisor knows of it: handled and not settled, and running."""
    request = one._pending
    handled = [*(request.settlement.handled if request else ()), *one._holds.done.handled]
    tags = list(one._holds.running)
    return Report(queue=one.queue, consumer=one.consumer, handled=handled, running=tags)
