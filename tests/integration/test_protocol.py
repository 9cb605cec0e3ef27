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
from flask_redis_queue import subscription
from flask_redis_queue.board import Report
from flask_redis_queue.broker import Broker
from flask_redis_queue.clients import make_pool
from flask_redis_queue.config import load
from flask_redis_queue.outcomes import Ack
from flask_redis_queue.protocol import Settlement, TurnRequest
from flask_redis_queue.subscription import Gone, Subscription

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from ..proxy import Proxy
from ..servers import RealServer


def make_broker(url: str, **settings: Any) -> Broker:
    """:return: A broker with its own connections."""
    config = load({"REDIS_URL": url, **settings}, {})
    return Broker(make_pool(config, 30), config)


def subscribe(broker: Broker, name: str = "c") -> Subscription:
    """:return: A consumer that has entered."""
    one = Subscription(broker, QUEUE, name, broker.pool)
    one.enter()
    return one


def fill(url: str, count: int, **config: Any) -> Any:
    """:return: The inspector of an app that has sent ``count`` messages."""
    app, queue = make_app(url, **config)
    with app.app_context():
        queue.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in range(count)])
    return app.extensions["redis_queue"].inspector


def run(one: Subscription, most: int = 1000) -> int:
    """:return: How many deliveries were taken and acknowledged."""
    done = 0
    while done < most and (delivery := one.take()) is not None:
        one.finish(delivery, Ack(None))  # type: ignore[arg-type]
        done += 1
    return done


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
    shared_server: RealServer, redis_url: str, name: str
) -> None:
    """Whichever reply is cut, every message is handled and nothing is left."""
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
    eventually(
        lambda: inspector.status(QUEUE).held == 1 and inspector.status(QUEUE).waiting == 2,
        "hand-back",
    )
    other = queue.consumer(app, name="other", max_messages=2, max_seconds=20)
    assert 2 == other.run().handled
    assert [2, 3] == got
    release.set()
    eventually(lambda: len(got) == 3, "the slow one")
    slow.stop()
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
