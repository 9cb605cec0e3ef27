"""What the model found: each the shortest history that shows it."""

from __future__ import annotations

from contextlib import suppress

import redis

from flask_redis_queue.outcomes import Ack, RetryLater
from flask_redis_queue.protocol import SendRequest, Settlement, TurnRequest
from flask_redis_queue.subscription import Gone, Subscription

from .actor import make_broker
from .world import KEYS, QUEUE


def test_what_took_a_consumer_down_travels_alone_after_a_retry_too(redis_url: str) -> None:
    """It kills, it fails, it is due: no bystander may be delivered with it."""
    client = redis.Redis.from_url(redis_url)
    broker = make_broker(client.connection_pool)
    names = [b"killer", b"bystander"]
    broker.send(SendRequest(QUEUE, "r1", "t", 60_000, "r1", names))
    first = Subscription(broker, QUEUE, "first", broker.pool)
    first.enter()
    first.turn(1)
    broker.bury(QUEUE, first.consumer, known=True)  # it died: the killer has one death
    second = Subscription(broker, QUEUE, "second", broker.pool)
    second.enter()
    assert [b"killer"] == [one.raw for one in second.turn(2).deliveries]
    killer = second.take()
    assert killer is not None
    second.finish(killer, RetryLater(None, 3600))  # type: ignore[arg-type]
    second.turn(0)
    (member,) = client.zrange(KEYS.delayed, 0, -1)
    client.zadd(KEYS.delayed, {member: 1})
    second.turn(2)  # it is due: from here it goes where the lonely ones wait
    for one in list(second._holds.ready):
        assert b"killer" != one.raw
        taken = second.take()
        assert taken is not None
        second.finish(taken, Ack(None))  # type: ignore[arg-type]
    assert [b"killer"] == [one.raw for one in second.turn(2).deliveries]


def test_two_late_requests_do_not_revive_a_buried_consumer(redis_url: str) -> None:
    """Copies of its enter and first turn come after its burial: no tag may mean two messages."""
    client = redis.Redis.from_url(redis_url)
    broker = make_broker(client.connection_pool)
    broker.send(SendRequest(QUEUE, "r1", "t", 60_000, "r1", [b"m1", b"m2"]))
    zombie = Subscription(broker, QUEUE, "zombie", broker.pool)
    zombie.enter()
    zombie.turn(1)
    running = zombie.take()
    assert running is not None
    broker.bury(QUEUE, zombie.consumer, known=True)
    heir = Subscription(broker, QUEUE, "heir", broker.pool)
    heir.enter()
    heir.turn(1)  # m1, which travels alone
    broker.enter(QUEUE, zombie.consumer)
    broker.turn(QUEUE, TurnRequest(zombie.consumer, 1, Settlement(), 1, True))  # m2, also as 1-1
    zombie.finish(running, Ack(None))  # type: ignore[arg-type]
    with suppress(Gone):
        zombie.turn(0)
    assert b"0" == (client.hget(KEYS.ledger, "handled") or b"0"), "m2, which nobody has run"
