"""Row 5: the reply to each script is cut, or the request, again and again."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter

import pytest
import redis

from flask_redis_queue import broker as scripts
from flask_redis_queue.broker import Broker
from flask_redis_queue.clients import make_pool
from flask_redis_queue.config import load
from flask_redis_queue.envelope import Message
from flask_redis_queue.signals import message_lost_lease
from flask_redis_queue.subscription import Subscription

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from ..proxy import Proxy
from ..servers import RealServer

LEASE = 1.0
TIMES = int(os.environ.get("CUTS", "1"))
SCRIPTS = {"SEND": 30 * TIMES, "ENTER": 6 * TIMES, "TURN": 20 * TIMES, "BEAT": 6 * TIMES}
SCRIPTS["BURY"] = 6 * TIMES
"""How often each is cut: every second one, for what is cut again and again waits ever longer."""


def strand(url: str, consumers: int) -> None:
    """Leave consumers behind whose lease has lapsed, each with a message that it took."""
    config = load({"REDIS_URL": url}, {})
    broker = Broker(make_pool(config, 5), config)
    client = redis.Redis.from_url(url)
    for number in range(consumers):
        one = Subscription(broker, QUEUE, f"ghost{number}", broker.pool)
        one.enter()
        one.turn(1)
        client.zadd(f"{{{QUEUE}}}:leases", {one.consumer: 1})


class Run:
    """Messages that are sent and consumed through a proxy that cuts one script."""

    def __init__(self, proxy: Proxy, url: str, name: str, applied: bool) -> None:
        self.proxy, self.name = proxy, name
        self.app, self.queue = make_app(
            proxy.url, REDIS_QUEUE_LEASE=LEASE, REDIS_QUEUE_SEND_TIMEOUT="20s"
        )
        self.got: list[int] = []
        self.lost: set[int] = set()
        message_lost_lease.connect(self._lose, sender=self.app)
        self.queue.handler(StockSupplied)(self._handle)
        self.sent = 0
        digest, number = getattr(scripts, name).digest.encode(), itertools.count()
        cut = proxy.cut_reply if applied else proxy.cut_request
        cut(lambda command: digest in command and next(number) % 2 == 0, SCRIPTS[name])
        self.url = url

    def _handle(self, supplied: dict[str, int]) -> None:
        self.got.append(supplied["quantity"])
        time.sleep(0.005)  # long enough for the lease thread to settle in between

    def _lose(self, sender: object, message: Message) -> None:
        # A machine that stands still for longer than the lease is as good as a dead one.
        self.lost.add(message.data["quantity"])

    def send(self, count: int) -> None:
        """Send messages one by one."""
        with self.app.app_context():
            for _ in range(count):
                self.queue.send(StockSupplied, {**GOODS, "quantity": self.sent})
                self.sent += 1

    def consume(self) -> None:
        """Send, leave consumers behind, and let consumers come until all cuts are done."""
        self.send(SCRIPTS["SEND"])
        if self.name == "BURY":
            strand(self.url, 2 * SCRIPTS["BURY"])
        deadline = time.monotonic() + 60
        while self.proxy.cuts < SCRIPTS[self.name] or len(set(self.got)) < self.sent:
            assert time.monotonic() < deadline, (self.proxy.cuts, len(self.got), self.sent)
            self.send(5)
            consumer = self.queue.consumer(self.app, max_seconds=60)
            thread = threading.Thread(target=consumer.run)
            thread.start()
            until = time.monotonic() + (0.05 if self.name == "ENTER" else 1.0)
            while time.monotonic() < until and self.proxy.cuts < SCRIPTS[self.name]:
                self.send(1)
                time.sleep(0.005)  # it works meanwhile; cuts are counted, not timed
            sent = self.sent
            eventually(lambda n=sent: len(set(self.got)) >= n, "all of these are handled", 60)
            consumer.stop()
            thread.join(30)


@pytest.mark.parametrize("applied", [True, False], ids=["reply", "request"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_cut_many_times(
    shared_server: RealServer, redis_url: str, name: str, applied: bool
) -> None:
    """Whatever is cut: each message once, none stuck for long, no consumer left behind."""
    with Proxy(shared_server.port) as proxy:
        run = Run(proxy, redis_url, name, applied)
        started = time.monotonic()
        run.consume()
        took = time.monotonic() - started
        cuts = proxy.cuts
    print(f"{name}: {cuts} cuts, {run.sent} messages in {took:.1f}s")
    direct, _ = make_app(redis_url)
    status = direct.extensions["redis_queue"].inspector.status(QUEUE)
    assert set() == {n for n, times in Counter(run.got).items() if times > 1} - run.lost
    assert set(range(run.sent)) == set(run.got)
    assert SCRIPTS[name] <= cuts
    assert (0, 0, 0, 0) == (status.waiting, status.held, status.dead, status.missing)
    assert [] == status.consumers


@pytest.mark.parametrize("applied", [True, False], ids=["reply", "request"])
def test_cut_while_it_agrees_anew(shared_server: RealServer, redis_url: str, applied: bool) -> None:
    """A server that forgot, and whose answer to that is cut: 20 times, and nothing is stuck."""
    client = redis.Redis.from_url(redis_url)
    with Proxy(shared_server.port) as proxy:
        config = load({"REDIS_URL": proxy.url}, {})
        one = Subscription(broker := Broker(make_pool(config, 5), config), QUEUE, "c", broker.pool)
        one.enter()
        app, queue = make_app(redis_url)
        for number in range(20):
            with app.app_context():
                queue.send_many(StockSupplied, [{**GOODS, "quantity": number}] * 2)
            one.turn(2)
            held = f"{{{QUEUE}}}:held:{one.consumer}"
            first = next(tag for tag in client.hkeys(held) if tag != b"#")
            client.hdel(held, first)
            cut = proxy.cut_reply if applied else proxy.cut_request
            cut(scripts.RESYNC.digest)
            with pytest.raises(Exception, match=r"(?i)closed|reset|broken"):
                one.turn(0)
            one.turn(0)
            delivery = one.take()
            assert (1, None) == (client.hlen(held) - 1, one.take())
            assert delivery is not None
            assert delivery.tag.encode() in client.hkeys(held)
            one.give_up_ready()
            one.hand_back_all()
            client.delete(QUEUE, f"{{{QUEUE}}}:back")
        assert 20 == proxy.cuts


@pytest.mark.parametrize("name", ["ENTER", "TURN", "BEAT"])
def test_cut_while_it_is_tried(shared_server: RealServer, redis_url: str, name: str) -> None:
    """A supervisor tries all that its workers will do: a lost connection is no refusal."""
    with Proxy(shared_server.port) as proxy:
        app, queue = make_app(proxy.url)
        queue.handler(StockSupplied)(lambda supplied: None)
        proxy.cut_reply(getattr(scripts, name).digest)
        queue.consumer(app).check()
        assert 1 == proxy.cuts
    direct, _ = make_app(redis_url)
    assert [] == direct.extensions["redis_queue"].inspector.status(QUEUE).consumers
