"""How a consumer ends: what it holds goes back, what is done is settled, its lease is given up.

Its connections are closed, so that a program which runs consumers finds no open socket later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import redis
from redis.exceptions import RedisError

from . import clients, diagnosis
from .guard import Guard
from .outage import Outage
from .processor import Processor
from .subscription import Gone, Subscription

_logger = logging.getLogger("flask_redis_queue")

_GOODBYE = 2.0
"""Seconds that a consumer tries to say that it ends; else its lease tells."""


def leave(
    subscriptions: Sequence[Subscription],
    outage: Outage,
    sender: object,
    pools: Sequence[redis.ConnectionPool],
) -> None:
    """Leave every queue, and Redis.

    :param subscriptions: Where it is.
    :param outage: Where trouble is told.
    :param sender: The app, for signals.
    :param pools: Its connections. A thread that still waits closes its own.
    """
    unfinished = []
    for one in subscriptions:
        try:
            if one.is_entered:
                clients.repeat(one.leave, time.monotonic() + _GOODBYE)
            elif one.consumer:
                raise Gone  # the lease thread has noticed it, and nobody has told it yet
        except Gone:
            outage.tell_lost(one.queue, *one.abandon(), sender)
        except (diagnosis.NotSent, RedisError):
            unfinished.append(one.queue)
    if unfinished:
        outage.tell_unfinished(unfinished)
    for pool in pools:
        clients.close(pool)


def give_up(subscriptions: Sequence[Subscription], guard: Guard | None, judge: Processor) -> int:
    """Leave although something runs that nothing can end, for the process ends now.

    :param subscriptions: Where it is.
    :param guard: Whose handler it is; ``None``: it is no handler.
    :param judge: Says what becomes of a message whose time is over.
    :return: How many messages that were running were handed back.
    """
    handed_back = 0
    delivery = guard.delivery if guard is not None and guard.has_timed_out else None
    for one in subscriptions:
        try:
            if delivery is not None and delivery.queue == one.queue:
                one.finish(delivery, judge.judge_timeout(delivery))
            if one.is_entered:
                handed_back += one.hand_back_all()
                one.leave()
        except (Gone, diagnosis.NotSent, RedisError):
            _logger.warning("%s: its messages are handed on when the lease lapses", one.queue)
    return handed_back
