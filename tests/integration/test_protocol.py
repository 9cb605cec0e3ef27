"""The invariants of docs/architecture.md, each by the script or the proxy that would break it."""

from __future__ import annotations

import multiprocessing
import threading
import time
import types
from typing import Any

import pytest
import redis

from flask_redis_queue import broker as scripts
from flask_redis_queue import farewell, subscription
from flask_redis_queue.protocol import Settlement, TurnRequest

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from ..proxy import Proxy
from ..servers import RealServer
from .brokers import fill, make_broker, run, subscribe


def test_invariant_2_send_is_stored_once_when_its_reply_is_cut(
    shared_server: RealServer, redis_url: str
) -> None:
    """The request is repeated with its identity: the list holds one copy, from 8 threads too."""
    with Proxy(shared_server.port) as proxy:
        app, queue = make_app(proxy.url, REDIS_QUEUE_SEND_TIMEOUT=20)

        def send() -> None:
            with app.app_context():
                queue.send(StockSupplied, GOODS)

        send()  # the script is loaded
        proxy.cut_reply(scripts.SEND.digest, 1)
        send()
        proxy.cut_reply(scripts.SEND.digest, 8)
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        child = multiprocessing.get_context("fork").Process(target=send)
        proxy.cut_reply(scripts.SEND.digest, 1)
        child.start()
        child.join()
        assert 0 == child.exitcode
        assert 10 == proxy.cuts
    assert 11 == shared_server.client().llen(QUEUE)


@pytest.mark.parametrize("name", ["TURN", "ENTER", "BEAT", "BURY"])
def test_invariant_2_cut_replies_lose_and_strand_nothing(
    shared_server: RealServer, redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever reply is cut, every message is handled and nothing is left."""
    monkeypatch.setattr(farewell, "_GOODBYE", 20.0)  # its last words are cut, too
    inspector = fill(redis_url, 30)
    ghost = make_broker(redis_url)
    lost = subscribe(ghost, "lost")
    lost.turn(5)  # held by a consumer that never comes back
    with Proxy(shared_server.port) as proxy:
        app, queue = make_app(proxy.url, REDIS_QUEUE_LEASE=1)
        got: list[int] = []
        queue.handler(StockSupplied)(lambda supplied: got.append(supplied["quantity"]))
        redis.Redis.from_url(redis_url).zadd(f"{{{QUEUE}}}:leases", {lost.consumer: 1})
        proxy.cut_reply(getattr(scripts, name).digest, 3)
        consumer = queue.consumer(app, max_seconds=30)
        thread = threading.Thread(target=consumer.run)
        thread.start()
        eventually(lambda: len(got) >= 30 and proxy.cuts >= (3 if name != "BURY" else 1), name)
        consumer.stop()
        thread.join(20)
    assert sorted(got) == sorted(set(got)) == list(range(30))
    status = inspector.status(QUEUE)
    assert (0, 0, 0, 0) == (status.waiting, status.held, status.dead, status.missing)
    assert [] == status.consumers


def test_invariant_2_a_repeated_turn_moves_nothing(redis_url: str) -> None:
    """The same number brings the same messages; an older one is stale."""
    fill(redis_url, 10)
    broker = make_broker(redis_url)
    broker.enter(QUEUE, "c-1")
    first = TurnRequest("c-1", 1, Settlement(), 3, True)
    one, two = broker.turn(QUEUE, first), broker.turn(QUEUE, first)
    assert [d.raw for d in one.deliveries] == [d.raw for d in two.deliveries]
    assert (3, 7) == (two.held, two.waiting)
    second = TurnRequest("c-1", 2, Settlement(handled=["1-1"]), 0, False)
    assert 1 == broker.turn(QUEUE, second).settled
    assert "stale" == broker.turn(QUEUE, first).status
    assert "behind" == broker.turn(QUEUE, TurnRequest("c-1", 9, Settlement(), 1, True)).status


def test_invariant_3_what_the_server_forgot_is_settled_again(redis_url: str) -> None:
    """A server that lost the last settle (an older file) gets it again: nothing is stuck."""
    inspector = fill(redis_url, 6)
    one = subscribe(make_broker(redis_url))
    client = redis.Redis.from_url(redis_url)
    one.turn(4)
    held = f"{{{QUEUE}}}:held:{one.consumer}"
    before, ledger = client.hgetall(held), client.hgetall(f"{{{QUEUE}}}:ledger")
    assert 4 == run(one)
    one.turn(0)
    client.hset(held, mapping=before)  # as if the append-only file had ended before the settle
    client.delete(f"{{{QUEUE}}}:ledger")
    client.hset(f"{{{QUEUE}}}:ledger", mapping=ledger)
    one.turn(0)  # behind: resync
    one.turn(0)
    assert 1 == client.hlen(held)
    one.turn(2)
    assert 2 == run(one)
    one.leave()
    status = inspector.status(QUEUE)
    assert (0, 0, 6, 0) == (status.waiting, status.held, status.ledger["handled"], status.missing)


def test_invariant_6_a_jump_of_the_clock_buries_nobody(redis_url: str) -> None:
    """All leases lapsed at once: whoever asks first restarts them all."""
    one, two = (subscribe(make_broker(redis_url), name) for name in ("one", "two"))
    leases = f"{{{QUEUE}}}:leases"
    redis.Redis.from_url(redis_url).zadd(leases, {one.consumer: 1, two.consumer: 1})
    assert [] == one.beat()
    assert [] == two.beat()


def test_invariant_6_a_clock_that_goes_back_restarts_all_leases(redis_url: str) -> None:
    """Leases that end in an hour: also that of one which is dead, and cannot renew it itself."""
    one, dead = (subscribe(make_broker(redis_url), name) for name in ("one", "dead"))
    client, leases = redis.Redis.from_url(redis_url), f"{{{QUEUE}}}:leases"
    usual = client.zscore(leases, dead.consumer)
    for name in (one.consumer, dead.consumer):
        client.zincrby(leases, 3_600_000, name)
    one.beat()
    assert client.zscore(leases, dead.consumer) < usual + 60_000


def test_invariant_8_a_turn_moves_a_mebibyte(redis_url: str) -> None:
    """Large messages: a turn stops at 1 MiB, counted after each step of at most 16."""
    client, size, step = redis.Redis.from_url(redis_url), 100_000, 16
    for _ in range(40):
        client.lpush(QUEUE, b"x" * size)
    broker, bound = make_broker(redis_url), 2**20
    broker.enter(QUEUE, "c-1")
    taken = broker.turn(QUEUE, TurnRequest("c-1", 1, Settlement(), 100, True)).deliveries
    assert bound <= sum(len(one.raw) for one in taken) < bound + step * size
    # What was handed back is taken one by one.
    settlement = Settlement(handed_back=[one.tag for one in taken])
    again = broker.turn(QUEUE, TurnRequest("c-1", 2, settlement, 100, True)).deliveries
    assert bound <= sum(len(one.raw) for one in again) < bound + size


def test_invariant_8_what_is_too_large_counts_too(redis_url: str) -> None:
    """A turn that finds only what becomes dead letters ends at 1 MiB, too."""
    client = redis.Redis.from_url(redis_url)
    for _ in range(40):
        client.lpush(QUEUE, b"x" * 100_000)
    broker = make_broker(redis_url, REDIS_QUEUE_MAX_BYTES=99_999)
    broker.enter(QUEUE, "c-1")
    assert 16 == len(broker.turn(QUEUE, TurnRequest("c-1", 1, Settlement(), 100, True)).large)


@pytest.mark.usefixtures("no_waiting")
def test_invariant_8_a_full_server_is_drained(own_server: RealServer) -> None:
    """At maxmemory a send raises; consumers drain it unaided."""
    client = own_server.client()
    fill(own_server.url, 300)
    client.config_set("maxmemory", "1mb")
    with pytest.raises(Exception, match="is full"):
        fill(own_server.url, 1)
    app, queue = make_app(own_server.url)
    got: list[Any] = []
    queue.handler(StockSupplied)(got.append)
    assert 300 == queue.consumer(app, burst=True, max_seconds=60).run().handled
    assert 300 == len(got)


def test_invariant_9_waiting_behind_a_slow_handler_ends(redis_url: str) -> None:
    """What waits for more than a second behind a handler goes back, and another consumer has it."""
    inspector = fill(redis_url, 4)
    app, queue = make_app(redis_url)
    got: list[int] = []
    release = threading.Event()

    @queue.handler(StockSupplied)
    def handle(supplied: dict[str, Any]) -> None:
        if supplied["quantity"] == 0:
            return
        if supplied["quantity"] == 1:
            release.wait(90)
        got.append(supplied["quantity"])

    slow = queue.consumer(app, name="slow", max_seconds=90)
    thread = threading.Thread(target=slow.run)
    thread.start()
    try:
        eventually(
            lambda: inspector.status(QUEUE).held == 1 and inspector.status(QUEUE).waiting == 2,
            "hand-back",
        )
        other = queue.consumer(app, name="other", max_messages=2, max_seconds=20)
        assert 2 == other.run().handled
        assert [2, 3] == got
    finally:
        release.set()
        slow.stop()
    eventually(lambda: len(got) == 3, "the slow one")
    thread.join(20)
    assert 0 == inspector.status(QUEUE).missing


def test_invariant_10_and_due_messages(redis_url: str) -> None:
    """Due messages take at most half of a fetch while the queue has work."""
    broker = make_broker(redis_url)
    app, queue = make_app(redis_url)
    with app.app_context():
        queue.send_many(StockSupplied, [GOODS] * 20, delay="1h")
        queue.send_many(StockSupplied, [GOODS] * 20)
    client, delayed = redis.Redis.from_url(redis_url), f"{{{QUEUE}}}:delayed"
    client.zadd(delayed, dict.fromkeys(client.zrange(delayed, 0, -1), 1))  # due long ago
    reply = subscribe(broker).turn(10)
    assert 5 == sum(1 for d in reply.deliveries if not d.birth.startswith("c-"))


def test_invariant_3_a_count_that_differs_is_noticed(redis_url: str) -> None:
    """What the server holds no more is not run, though no sequence tells."""
    fill(redis_url, 4)
    one = subscribe(make_broker(redis_url))
    one.turn(3)
    redis.Redis.from_url(redis_url).hdel(f"{{{QUEUE}}}:held:{one.consumer}", "1-2")
    one.turn(0)
    assert 2 == run(one)


def test_invariant_9_nothing_starts_on_an_old_lease(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer that was silent for its lease renews it before it starts a handler."""
    fill(redis_url, 2)
    one = subscribe(make_broker(redis_url, REDIS_QUEUE_LEASE="5s"))
    one.turn(2)
    later = types.SimpleNamespace(monotonic=lambda: time.monotonic() + 5)
    monkeypatch.setattr(subscription, "time", later)
    assert (2, None) == (one.ready, one.take())
    one.turn(0)
    assert 2 == run(one)


def test_invariant_10_what_is_handed_back_keeps_its_order(redis_url: str) -> None:
    """Handed back in one turn, taken in the next: the oldest comes first again."""
    fill(redis_url, 3)
    broker = make_broker(redis_url)
    broker.enter(QUEUE, "c-1")
    taken = broker.turn(QUEUE, TurnRequest("c-1", 1, Settlement(), 3, True)).deliveries
    settlement = Settlement(handed_back=[one.tag for one in taken])
    again = broker.turn(QUEUE, TurnRequest("c-1", 2, settlement, 3, True)).deliveries
    assert [one.raw for one in taken] == [one.raw for one in again]


def test_invariant_3_a_late_copy_finds_another_number(redis_url: str) -> None:
    """The request that showed that the server forgot may come once more: it takes nothing."""
    inspector = fill(redis_url, 3)
    one = subscribe(broker := make_broker(redis_url))
    for _ in range(3):
        one.turn(0)
    first = broker.enter(QUEUE, one.consumer)  # a repeat tells its number
    redis.Redis.from_url(redis_url).hset(f"{{{QUEUE}}}:held:{one.consumer}", "#", first - 2)
    one.turn(2)
    copy = TurnRequest(one.consumer, first + 1, Settlement(), 2, True)
    assert "stale" == broker.turn(QUEUE, copy).status
    assert (3, 0) == (inspector.status(QUEUE).waiting, inspector.status(QUEUE).held)
    one.turn(3)
    assert 3 == run(one)
