"""Row 17: bytes that nobody should send. No consumer ends, and each is kept as it came."""

from __future__ import annotations

import base64
import gc
import json
import os
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis

from flask_redis_queue import current_message

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import close_connections

FUZZED = int(os.environ.get("FUZZED", "10000"))
FACTOR = 5
"""A goal is asserted at so many times its value, for machines differ."""
MIB = 1 << 20
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "shop",
    "type": "stock.supplied",
    "data": GOODS,
}


def event(**changes: Any) -> bytes:
    """:return: A valid event but for these members."""
    return json.dumps(EVENT | changes).encode()


def data(text: str) -> bytes:
    """:return: An event with this text for a quantity."""
    return event(data=GOODS | {"quantity": "@"}).replace(b'"@"', text.encode())


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "NUL": b"\0",
    "NUL in an event": event().replace(b"shop", b"sh\0op"),
    "escaped NUL in a number's place": data('"\\u0000"'),
    "NaN": data("NaN"),
    "infinity": data("-Infinity"),
    "1e999": data("1e999"),
    "huge integer": data("9" * 5000),
    "huger integer": data("9" * 900_000),
    "a digit too many for 64 bits is a string": data('"18446744073709551616"'),
    "fraction": data("1.5"),
    "duplicate key": event().replace(b'"id"', b'"id": "2", "id"', 1),
    "duplicate key inside": data('1, "quantity": 2'),
    "deep lists": data("[" * 100_000 + "]" * 100_000),
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep and cut": b"[" * 900_000,
    "bad UTF-8": event().replace(b"shop", b"sh\xff\xfeop"),
    "overlong UTF-8": event().replace(b"shop", b"sh\xc0\xafop"),
    "UTF-16": json.dumps(EVENT).encode("utf-16"),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + event(),
    "half a surrogate pair": event(source="\ud800"),
    "unknown type": event(type="stock.stolen"),
    "type of a million": event(type="t" * 900_000),
    "no type": event(type=None),
    "type is an object": event(type={"a": 1}),
    "id is a number": event(id=1),
    "old specversion": event(specversion="0.3"),
    "a time that is none": event(time="soon"),
    "a time of year 10000": event(time="10000-01-01T00:00:00Z"),
    "expiry that is none": event(expirytime=[1]),
    "base64 that is none": event(data_base64="?"),
    "base64 of no JSON": event(data_base64=base64.b64encode(b"\xff").decode()),
    "no data": event(data=None),
    "data is a list": event(data=[GOODS]),
    "data is a string": event(data=json.dumps(GOODS)),
    "many members": event(data={f"k{n}": n for n in range(50_000)}),
    "a header line of ours": b"birth 0 0 0\n" + event()[:-1],
    "a Redis command": b"*1\r\n$8\r\nFLUSHALL\r\n",
    "a pickle": b"cos\nsystem\n(S'false'\ntR.",
    "untyped": json.dumps(GOODS | {"quantity": None}).encode(),
    "a number": b"1",
    "null": b"null",
    "15 MiB of text": b'"' + b"x" * (15 * MIB) + b'"',
    "15 MiB of lists": b"[" + b"[]," * (5 * MIB - 1) + b"[]]",
    "15 MiB of objects": b"[" + b"{}," * (5 * MIB - 1) + b"{}]",
    "15 MiB of nothing": b"\0" * (15 * MIB),
}


class Victim:
    """An app whose consumer is fed, and what it made of it."""

    def __init__(self, url: str, **config: Any) -> None:
        self.app, self.queue = make_app(url, **config)
        self.client = redis.Redis.from_url(url)
        self.handled: list[bytes] = []
        self.queue.handler(StockSupplied)(lambda _: self.handled.append(current_message.raw))

    def feed(self, *raws: bytes) -> None:
        """Push the bytes as any program may, and let a consumer drain the queue."""
        for start in range(0, len(raws), 500):
            self.client.lpush(QUEUE, *raws[start : start + 500])
        self.queue.consumer(self.app, burst=True, max_seconds=100).run()

    def dead(self) -> Counter[bytes]:
        """:return: The exact bytes of all dead letters."""
        inspector = self.app.extensions["redis_queue"].inspector
        return Counter(one.delivery.raw for one in inspector.dead_letters(QUEUE))

    def is_drained(self) -> bool:
        """:return: Whether all is accounted for."""
        status = self.app.extensions["redis_queue"].inspector.status(QUEUE)
        return (0, 0, 0, []) == (status.waiting, status.held, status.missing, status.consumers)


@pytest.mark.parametrize("most", [MIB, 16 * MIB], ids=["refused by size", "read"])
def test_each_kind_is_a_dead_letter(redis_url: str, most: int) -> None:
    """Exact bytes, within a second and in bounded memory each; also where large ones are read."""
    victim = Victim(redis_url, REDIS_QUEUE_MAX_BYTES=most)
    worst: dict[str, tuple[float, float]] = {}
    for name, raw in HOSTILE.items():
        if most > MIB and len(raw) < MIB and len(raw) > 10_000:
            continue  # it met the same code in the other run
        started = time.monotonic()
        victim.feed(raw)
        worst[name] = (time.monotonic() - started, len(raw) / MIB)
        assert Counter([raw]) == victim.dead(), name
        assert victim.is_drained(), name
        victim.client.delete(*(f"{{{QUEUE}}}:{key}" for key in ("dead", "dead:index", "ledger")))
    slowest = max(worst, key=lambda name: worst[name][0])
    print(f"{len(worst)} kinds, slowest: {slowest}, {worst[slowest][0]:.2f}s, goal 1s")
    # 15 MiB of brackets make millions of Python objects: a second for each MiB that is allowed.
    assert [] == [n for n, (took, size) in worst.items() if took > FACTOR * max(1.0, size)]
    assert [] == victim.handled


@pytest.mark.parametrize("name", ["15 MiB of lists", "deep objects", "huger integer"])
def test_memory_is_bounded(redis_url: str, name: str) -> None:
    """What one message takes is a fixed multiple of its size, and is given back."""
    victim = Victim(redis_url, REDIS_QUEUE_MAX_BYTES=16 * MIB)
    raw = HOSTILE[name]
    victim.feed(b"null")
    close_connections()
    tracemalloc.start()
    try:
        victim.feed(raw)
        peak = tracemalloc.get_traced_memory()[1]
        close_connections()
        gc.collect()  # a consumer that has ended is full of circles
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    print(f"{name}: {len(raw) / MIB:.1f} MiB, at most {peak / MIB:.0f} MiB, then {after / MIB:.1f}")
    assert peak < 40 * len(raw) + 16 * MIB
    assert after < len(raw) + 4 * MIB


def _noise(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(200))


def _punctuation(dice: random.Random) -> bytes:
    return bytes(dice.choices(b'{}[]",:\\0123456789.eE+-ntfu \n', k=dice.randrange(80)))


def _damaged(dice: random.Random) -> bytes:
    raw = bytearray(event(id=str(dice.random())))
    for _ in range(dice.randrange(1, 4)):
        place = dice.randrange(len(raw))
        match dice.randrange(4):
            case 0:
                raw[place] = dice.randrange(256)
            case 1:
                del raw[place : place + dice.randrange(1, 20)]
            case 2:
                raw[place:place] = dice.randbytes(dice.randrange(1, 5))
            case 3:
                raw[place:place] = raw[place : place + dice.randrange(1, 30)]
        if not raw:
            break
    return bytes(raw)


def _values(dice: random.Random) -> bytes:
    names = [*EVENT, "time", "expirytime", "data_base64", "datacontenttype"]
    odd = [None, True, 0, -1, 1e308, "", "\0", [], {}, [[]], {"": ""}, "9" * 50, "2026-13-01"]
    changed = {name: dice.choice(odd) for name in dice.sample(names, dice.randrange(1, 4))}
    return json.dumps(EVENT | changed).encode()


KINDS: list[Callable[[random.Random], bytes]] = [_noise, _punctuation, _damaged, _values]


@pytest.mark.slow
def test_fuzzed_bytes(redis_url: str) -> None:
    """10,000 inputs: the consumer goes on; each is a dead letter with its exact bytes, or valid."""
    seed = int(os.environ.get("SEED", "1"))
    dice = random.Random(seed)
    raws = [dice.choice(KINDS)(dice) for _ in range(FUZZED)]
    victim = Victim(redis_url)
    started = time.monotonic()
    victim.feed(*raws)
    took = time.monotonic() - started
    expired = victim.client.hget(f"{{{QUEUE}}}:ledger", "expired")
    dead, handled = victim.dead(), Counter(victim.handled)
    print(
        f"seed {seed}: {FUZZED} inputs in {took:.1f}s, {dead.total()} dead, "
        f"{handled.total()} still valid, {int(expired or 0)} expired"
    )
    assert Counter(raws) == dead + handled
    assert victim.is_drained()
    assert handled.total() < FUZZED / 5  # or the damage would be none
    victim.feed(event(id="last"))
    assert event(id="last") == victim.handled[-1]
