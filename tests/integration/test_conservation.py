"""Invariant 1: a message is in exactly one place, whatever moves it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import redis

from flask_redis_queue.broker import Broker
from flask_redis_queue.clients import make_pool
from flask_redis_queue.config import load
from flask_redis_queue.inspector import Inspector
from flask_redis_queue.protocol import SendRequest, Settlement, TurnRequest

from ..apps import QUEUE

DEAD = json.dumps({"cause": "failed", "why": "in a test"})


class Places:
    """One queue, and where each of its messages is."""

    def __init__(self, url: str, **settings: Any) -> None:
        config = load({"REDIS_URL": url, "REDIS_QUEUE_MAX_BYTES": 1024, **settings}, {})
        self.broker = Broker(make_pool(config, 5), config)
        self.inspector = Inspector(self.broker.pool)
        self.client = redis.Redis.from_url(url)
        self.names: set[str] = set()
        self._seqs: dict[str, int] = {}

    def enter(self, who: str) -> None:
        """Let a consumer in."""
        self._seqs[who] = self.broker.enter(QUEUE, who)

    def send(self, *names: str, delay_ms: int = 0) -> None:
        """Send messages that are called so."""
        bodies = [f'"{name}"'.encode() for name in names]
        request = SendRequest(QUEUE, names[0], "t", 60_000, names[0], bodies, delay_ms)
        assert "ok" == self.broker.send(request)[0]
        self.names |= set(names)

    def next_turn(self, who: str, n: int, **settled: Any) -> TurnRequest:
        """:return: What a consumer asks next; it holds nothing that runs."""
        self._seqs[who] += 1
        return TurnRequest(who, self._seqs[who], Settlement(**settled), n, True)

    def turn(self, n: int, who: str = "worker", **settled: Any) -> list[str]:
        """:return: The tags that one turn of a consumer took."""
        reply = self.broker.turn(QUEUE, self.next_turn(who, n, **settled))
        assert "ok" == reply.status
        return [one.tag for one in reply.deliveries]

    def check(self, *finished: str) -> None:
        """Look into every key: each message that is not finished stands in one, once."""
        self.names -= set(finished)
        places = self.places()
        assert dict.fromkeys(self.names, 1) == {n: places[n] for n in places if n in self.names}
        assert 0 == self.inspector.status(QUEUE).missing

    def places(self) -> Counter[str]:
        """:return: In how many places each message stands, by its name."""
        values: list[bytes] = []
        for key in self.client.keys("*"):
            match self.client.type(key):
                case b"list":
                    values += self.client.lrange(key, 0, -1)
                case b"hash":
                    values += self.client.hvals(key)
                case b"zset":
                    values += self.client.zrange(key, 0, -1)
        return Counter(name_of(value) for value in values)


def name_of(stored: bytes) -> str:
    """:return: What a message is called, given its bytes, with or without a header."""
    return stored.rpartition(b"\n")[2].strip(b'"x ').decode(errors="replace")


@pytest.fixture
def places(redis_url: str) -> Places:
    """An empty queue, and a consumer that has entered."""
    made = Places(redis_url)
    made.enter("worker")
    return made


def test_invariant_1_settling_moves_each_message_once(places: Places) -> None:
    """Sent, delayed, woken, held, retried, dead, handed back, acknowledged, expired, replayed."""
    places.send("a", "b", "c", "d", "e", "f", "g")
    places.send("late", delay_ms=60_000)
    places.check()
    places.client.lpush(QUEUE, '"foreign"')
    places.names.add("foreign")
    assert places.broker.wait(places.broker.pool, QUEUE, 0.01)
    places.check()
    tags = places.turn(5)
    places.check()
    places.turn(
        0,
        handled=[tags[0]],
        expired=[tags[1]],
        retried=[(tags[2], 60_000)],
        dead=[(tags[3], DEAD)],
        handed_back=[tags[4]],
    )
    places.check("a", "b")
    assert 4 == len(places.turn(9))
    places.check()
    (dead,) = places.inspector.dead_letters(QUEUE)
    assert 1 == places.inspector.replay(QUEUE, [dead.key])
    assert 0 == places.inspector.replay(QUEUE, [dead.key])
    places.check()


def test_invariant_1_due_messages_leave_the_delayed_ones(places: Places) -> None:
    """A message that is due is held, and delayed no more."""
    places.send("soon", delay_ms=60_000)
    delayed = f"{{{QUEUE}}}:delayed"
    (member,) = places.client.zrange(delayed, 0, -1)
    places.client.zadd(delayed, {member: 1})
    assert 1 == len(places.turn(1))
    places.check()


def test_invariant_1_burying_moves_each_message_once(places: Places) -> None:
    """What a consumer held goes back when it is buried, or to the dead letters past the limit."""
    places.send("a", "b", "c")
    places.turn(3)
    assert (True, 3, 0) == places.broker.bury(QUEUE, "worker", known=True)
    places.check()
    for number in range(12):  # each takes the one that has waited longest; each may die 5 times
        name = f"worker-{number}"
        places.enter(name)
        assert 1 == len(places.turn(3, name))
        assert places.broker.bury(QUEUE, name, known=True)[0]
        places.check()
    assert 3 == places.inspector.status(QUEUE).dead


def test_invariant_1_what_is_too_large_is_kept_unread(places: Places) -> None:
    """A message over the limit goes from the list to the dead letters inside the script."""
    places.client.lpush(QUEUE, b'"big' + b"x" * 2000 + b'"')
    places.names.add("big")
    assert [] == places.turn(5)
    places.check()
    assert 1 == places.inspector.status(QUEUE).dead
