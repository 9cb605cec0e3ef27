"""redis-py, tamed: own connections, and no retries of its own.

redis-py 6 to 8 repeats a command by itself; behind a cut connection one LPUSH then leaves several
copies. Here nothing is repeated but by :func:`repeat`, and only what carries its own identity.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from .config import Config
from .diagnosis import NotSent, is_doubtful, kind

Result = TypeVar("Result")


def make_pool(config: Config, timeout: float, client_name: str = "") -> redis.ConnectionPool:
    """Make a pool whose connections never repeat anything.

    :param config: Where Redis is, and as whom to log in.
    :param timeout: Seconds that connecting, and each answer, may take.
    :param client_name: What ``CLIENT LIST`` calls the connections.
    :return: The pool. It is safe to use after a fork.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "protocol": 2,
        # A thread in mid-send holds one; a limit would turn a busy server into errors.
        "max_connections": 2**31,
    }
    if client_name:
        options["client_name"] = client_name
    for name in ("username", "password"):
        if value := getattr(config, name):
            options[name] = value
    parts = urlsplit(config.url)
    if parts.scheme == "redis+sentinel":
        return _sentinel_pool(parts, options)
    if parts.scheme == "unix":
        options.pop("socket_keepalive")
    if parts.scheme == "rediss":
        for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            if value := getattr(config, name):
                options[name] = value
    return redis.ConnectionPool.from_url(config.url, **options)


def _sentinel_pool(parts: Any, options: dict[str, Any]) -> redis.ConnectionPool:
    service, _, db = parts.path.strip("/").partition("/")
    hosts = []
    for one in parts.netloc.rpartition("@")[2].split(","):
        host, _, port = one.rpartition(":")
        hosts.append((host or one, int(port) if host else 26379))
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    options.setdefault("username", unquote(user) or None)
    options.setdefault("password", unquote(password) or None)
    options["db"] = int(db or 0)
    query = parse_qs(parts.query)
    sentinel_options = {
        "socket_timeout": options["socket_timeout"],
        "socket_connect_timeout": options["socket_timeout"],
        "password": query.get("sentinel_password", [None])[0],
        "username": query.get("sentinel_username", [None])[0],
    }
    sentinel: Any = Sentinel(hosts, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    pool: redis.ConnectionPool = sentinel.master_for(service, **options).connection_pool
    return pool


class Connection:
    """One connection of a pool, for one exchange of requests and replies."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def call(self, *args: Any) -> Any:
        """Send one command and read its reply."""
        self._raw.send_command(*args)
        return self._raw.read_response()

    def send(self, *args: Any) -> None:
        """Send one command; :meth:`read` takes its reply later."""
        self._raw.send_command(*args)

    def read(self) -> Any:
        """Read the next reply."""
        return self._raw.read_response()


@contextmanager
def connection(pool: redis.ConnectionPool) -> Iterator[Connection]:
    """Borrow a connection.

    A connection whose exchange was not finished is closed: its next reply would be another
    request's.

    :param pool: The pool.
    :return: The connection.
    :raises NotSent: If there is none to be had.
    """
    try:
        raw = _checkout(pool)
    except RedisError as error:
        raise NotSent(error) from error
    try:
        yield Connection(raw)
    except ResponseError:
        raise
    except BaseException:
        raw.disconnect()
        raise
    finally:
        pool.release(raw)


def _checkout_by_name(pool: Any) -> Any:
    return pool.get_connection("EVALSHA")


def _checkout_plain(pool: Any) -> Any:
    return pool.get_connection()


# redis-py 5.0 to 5.2 ask for a command's name, later ones warn when they get one.
_checkout = (
    _checkout_by_name
    if tuple(int(n) for n in redis.__version__.split(".")[:2]) < (5, 3)
    else _checkout_plain
)


def repeat(call: Callable[[], Result], deadline: float) -> Result:
    """Repeat a call while Redis is away, until a moment.

    Only for requests that carry their own identity: the server may have applied one whose reply
    was lost.

    :param call: What to do.
    :param deadline: A moment of ``time.monotonic()``.
    :return: What the call returns.
    :raises NotSent: If no attempt reached the server.
    :raises redis.RedisError: The last error, if one may have.
    """
    doubtful: Exception | None = None
    wait = 0.02
    while True:
        try:
            return call()
        except (NotSent, RedisError) as error:
            if is_doubtful(error):
                doubtful = error
            pause = wait * random.uniform(0.5, 1.0)
            if kind(error) != "away" or time.monotonic() + pause >= deadline:
                raise doubtful or error from None
        time.sleep(pause)
        wait = min(wait * 2, 0.25)


def backoff() -> Iterator[float]:
    """:return: Waits for reconnecting: 50 ms to 1 s, each spread over its upper half."""
    wait = 0.05
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(wait * 2, 1.0)
