"""The proxy of the fault tests, checked by what the server holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, TimeoutError
from redis.retry import Retry

from ..conftest import eventually
from ..proxy import Proxy

PUSH = "return redis.call('LPUSH', KEYS[1], ARGV[1])"


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    """A proxy before the shared server."""
    with Proxy(urlsplit(redis_url).port or 0) as proxy:
        yield proxy


@contextmanager
def connect(port: int, protocol: int = 3, timeout: float = 30.0) -> Iterator[Redis]:
    """A client that repeats nothing by itself."""
    client = Redis(
        port=port, retry=Retry(NoBackoff(), 0), socket_timeout=timeout, protocol=protocol
    )
    with client:
        yield client


@pytest.mark.parametrize("protocol", [2, 3])
def test_passes_everything_on(proxy: Proxy, protocol: int) -> None:
    """Without orders replies of every shape and a large value come through unchanged."""
    value = b"\r\n$5\r\n" * 300_000
    with connect(proxy.port, protocol) as client:
        client.hset("h", mapping={"a": 1, "b": ""})
        client.set("large", value)
        assert {b"a": b"1", b"b": b""} == client.hgetall("h")
        assert value == client.get("large")
        assert [None, [], set()] == [
            client.get("x"),
            client.lrange("x", 0, 9),
            client.smembers("y"),
        ]
    assert 0 == proxy.cuts


@pytest.mark.parametrize("protocol", [2, 3])
def test_cuts_after_the_server_applied_it(proxy: Proxy, redis_url: str, protocol: int) -> None:
    """The client of a cut reply gets an error, and the server holds what it sent."""
    with connect(proxy.port, protocol) as client, Redis.from_url(redis_url) as behind:
        sha = client.script_load(PUSH)
        proxy.cut_reply(sha.encode() if isinstance(sha, str) else sha)
        with pytest.raises(ConnectionError):
            client.evalsha(sha, 1, "q", "first")
        assert (1, [b"first"]) == (proxy.cuts, behind.lrange("q", 0, -1))
        assert 2 == client.evalsha(sha, 1, "q", "second")
    assert 1 == proxy.cuts


def test_cuts_before_the_server_saw_it(proxy: Proxy, redis_url: str) -> None:
    """The client of a cut request gets an error, and the server holds nothing of it."""
    with connect(proxy.port) as client, Redis.from_url(redis_url) as behind:
        proxy.cut_request(lambda command: b"LPUSH" in command, times=2)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                client.lpush("q", "lost")
        assert (2, 0) == (proxy.cuts, behind.llen("q"))
        assert 1 == client.lpush("q", "third")


def test_cuts_at_one_command_of_a_pipeline(proxy: Proxy, redis_url: str) -> None:
    """What stands before the cut is applied, what stands behind it is never forwarded."""
    with connect(proxy.port) as client, Redis.from_url(redis_url) as behind:
        proxy.cut_reply(b"two")
        pipe = client.pipeline(transaction=False).lpush("q", "one").lpush("q", "two")
        with pytest.raises(ConnectionError):
            pipe.lpush("q", "three").execute()
        assert [b"two", b"one"] == behind.lrange("q", 0, -1)


def test_waits_for_a_blocked_reply(proxy: Proxy, redis_url: str) -> None:
    """A blocking command is cut only when the server has answered it."""
    with connect(proxy.port) as client, Redis.from_url(redis_url) as behind:
        proxy.cut_reply(b"BLMOVE")
        with ThreadPoolExecutor(1) as pool:
            moved = pool.submit(client.blmove, "q", "wake", 20)
            eventually(lambda: _blocked(behind), "it waits")
            behind.lpush("q", "message")
            assert isinstance(moved.exception(20), ConnectionError)
        assert [b"message"] == behind.lrange("wake", 0, -1)


def test_delays(proxy: Proxy) -> None:
    """A request takes at least as long as it is held back."""
    with connect(proxy.port) as client:
        client.ping()
        proxy.delay(0.1)
        began = time.monotonic()
        client.ping()
        assert time.monotonic() - began >= 0.1


def test_refuses_and_accepts(proxy: Proxy) -> None:
    """Refusing closes what is open and lets nobody in, until it accepts on the same port."""
    with connect(proxy.port) as client:
        assert client.ping()
        proxy.refuse()
        for _ in range(2):
            with pytest.raises(ConnectionError):
                client.ping()
        proxy.accept()
        assert client.ping()


def test_hangs(proxy: Proxy, redis_url: str) -> None:
    """A half-open connection swallows requests; accepting again closes it."""
    with connect(proxy.port, timeout=0.2) as client, Redis.from_url(redis_url) as behind:
        eventually(lambda: _pings(client), "it is connected")
        proxy.hang()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                client.lpush("q", "swallowed")
        assert 0 == behind.llen("q")
        proxy.accept()
    with connect(proxy.port) as patient:
        assert 1 == patient.lpush("q", "arrives")


def test_many_clients_at_once(proxy: Proxy, redis_url: str) -> None:
    """Each of many clients is served, and exactly as many are cut as were ordered."""
    proxy.cut_reply(b"LPUSH", times=7)

    def push(number: int) -> bool:
        with connect(proxy.port, timeout=20) as client:
            try:
                return bool(client.lpush("q", number))
            except ConnectionError:
                return False

    with ThreadPoolExecutor(50) as pool:
        assert 193 == sum(pool.map(push, range(200)))
    with Redis.from_url(redis_url) as behind:
        assert (7, 200) == (proxy.cuts, behind.llen("q"))


def _pings(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except TimeoutError:  # it waits no longer than a test of it should take
        return False


def _blocked(client: Redis) -> bool:
    return int(client.info("clients")["blocked_clients"]) > 0
