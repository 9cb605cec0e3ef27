"""Invariants 4 and 5 of docs/architecture.md: who is gone, and what took its consumer down."""

from __future__ import annotations

import pytest
import redis

from flask_redis_queue.board import Report
from flask_redis_queue.protocol import Settlement, TurnRequest
from flask_redis_queue.subscription import Gone

from ..apps import QUEUE
from .brokers import fill, make_broker, run, subscribe


def test_invariant_4_a_zombie_is_gone(redis_url: str) -> None:
    """A consumer that was buried changes nothing any more, and gets a new name when it enters."""
    inspector = fill(redis_url, 3)
    zombie, heir = (subscribe(make_broker(redis_url), name) for name in ("zombie", "heir"))
    zombie.turn(3)
    assert 3 == run(zombie)
    old = zombie.consumer
    redis.Redis.from_url(redis_url).zadd(f"{{{QUEUE}}}:leases", {old: 1})
    assert [old] == heir.beat()
    assert (True, 3, 0) == make_broker(redis_url).bury(QUEUE, old)
    with pytest.raises(Gone):
        zombie.turn(0)
    assert (3, 0) == (
        inspector.status(QUEUE).waiting,
        inspector.status(QUEUE).ledger.get("handled", 0),
    )
    zombie.enter()
    assert old != zombie.consumer


def test_invariant_4_a_turn_creates_no_consumer(redis_url: str) -> None:
    """Only `enter` makes a consumer: a ghost's turn takes nothing."""
    inspector = fill(redis_url, 3)
    ghost = TurnRequest("ghost", 1, Settlement(), 3, True)
    assert "gone" == make_broker(redis_url).turn(QUEUE, ghost).status
    assert (3, []) == (inspector.status(QUEUE).waiting, inspector.status(QUEUE).consumers)


def test_invariant_4_a_beat_of_one_that_is_gone_says_so(redis_url: str) -> None:
    """After its burial a consumer learns of it by its beat, too, and gets no lease by it."""
    inspector = fill(redis_url, 1)
    broker = make_broker(redis_url)
    zombie = subscribe(broker, "zombie")
    zombie.turn(1)
    broker.bury(QUEUE, zombie.consumer, known=True)
    with pytest.raises(Gone):
        zombie.beat()
    assert (1, []) == (inspector.status(QUEUE).waiting, inspector.status(QUEUE).consumers)


def test_invariant_5_a_killer_travels_alone_and_ends(redis_url: str) -> None:
    """What was held at a death comes alone; after MAX_DELIVERIES deaths it is a dead letter."""
    inspector = fill(redis_url, 3)
    broker = make_broker(redis_url, REDIS_QUEUE_MAX_DELIVERIES=3)
    first = subscribe(broker, "victim")
    first.turn(3)
    broker.bury(QUEUE, first.consumer, known=True)
    for _ in range(2):
        one = subscribe(broker, "victim")
        assert 1 == len(one.turn(10).deliveries)
        broker.bury(QUEUE, one.consumer, known=True)
    dead_letters = list(inspector.dead_letters(QUEUE))
    survivor = subscribe(broker, "survivor")
    sizes = []
    while (reply := survivor.turn(10)).deliveries:
        sizes.append(len(reply.deliveries))
        run(survivor)
    assert 3 == sum(sizes) + len(dead_letters)
    assert {1} == set(sizes)


def test_invariant_5_a_killer_waits_until_it_is_alone(redis_url: str) -> None:
    """It joins neither what its consumer holds nor what comes before it, and nothing joins it."""
    fill(redis_url, 6)
    broker = make_broker(redis_url)
    victim, other = subscribe(broker, "victim"), subscribe(broker, "other")
    other.turn(2)  # 0 and 1
    victim.turn(1)  # 2, the killer
    broker.bury(QUEUE, victim.consumer, known=True)
    busy = TurnRequest(other.consumer, other._seq + 1, Settlement(), 5, False)
    assert [] == broker.turn(QUEUE, busy).deliveries
    # 0 and 1 come back, in front of the killer.
    settlement = Settlement(handed_back=[one.tag for one in other._holds.ready])
    nothing = TurnRequest(other.consumer, other._seq + 2, settlement, 0, True)
    assert 2 == broker.turn(QUEUE, nothing).settled
    heir, sizes = subscribe(broker, "heir"), []
    while deliveries := heir.turn(5).deliveries:
        sizes.append([delivery.deaths for delivery in deliveries])
        run(heir)
    assert [[0, 0], [1], [0, 0, 0]] == sizes


def test_invariant_1_a_killer_that_is_due_is_in_one_place(redis_url: str) -> None:
    """It goes where the lonely ones wait, and is delayed no more."""
    client, delayed = redis.Redis.from_url(redis_url), f"{{{QUEUE}}}:delayed"
    client.zadd(delayed, {"c-0:1-1 1 1 0\n{}": 1})  # one attempt, one death, due long ago
    one = subscribe(make_broker(redis_url))
    one.turn(1)
    assert 1 == client.llen(f"{{{QUEUE}}}:back") + one.ready
    assert 0 == client.zcard(delayed)


def test_invariant_5_burying_needs_a_lapsed_lease(redis_url: str) -> None:
    """A consumer that has renewed in the meantime is not buried."""
    fill(redis_url, 1)
    broker = make_broker(redis_url)
    living = subscribe(broker)
    living.turn(1)
    assert (False, 0, 0) == broker.bury(QUEUE, living.consumer)
    assert 1 == run(living)


def test_invariant_5_only_what_ran_is_blamed(redis_url: str) -> None:
    """A supervisor's report: what was done is settled, what ran has a death, the rest has none."""
    inspector = fill(redis_url, 3)
    broker = make_broker(redis_url)
    one = subscribe(broker)
    tags = [delivery.tag for delivery in one.turn(3).deliveries]
    report = Report(QUEUE, one.consumer, handled=tags[:1], running=tags[1:2])
    assert (True, 2, 0) == broker.bury(QUEUE, one.consumer, known=True, last_seen=report)
    heir = subscribe(broker)
    deaths = []
    while deliveries := heir.turn(5).deliveries:
        deaths.append([delivery.deaths for delivery in deliveries])
        run(heir)
    assert [[1], [0]] == deaths
    assert (3, 0) == (inspector.status(QUEUE).ledger["handled"], inspector.status(QUEUE).missing)
