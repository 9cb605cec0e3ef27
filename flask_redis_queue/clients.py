"""redis-py, tamed: own connections, and no retries of its own.

redis-py 6 to 8 repeats a command by itself; behind a cut connection one LPUSH then leaves several
copies. Here nothing is repeated but by :func:`repeat`, and only what carries its own identity.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from .config import SSL_OPTIONS, Config, sentinels_of
from .diagnosis import NoMaster, NotSent, is_demoted, is_doubtful, kind
from .exceptions import ConfigurationError

Result = TypeVar("Result")


def make_pool(config: Config, timeout: float, client_name: str = "") -> redis.ConnectionPool:
    """Make a pool whose connections never repeat anything.

    Of the URL only where, as whom and how TLS is checked are taken: an option such as
    ``decode_responses``, meant for another program that shares the URL, would break the protocol.

    :param config: Where Redis is, and as whom to log in.
    :param timeout: Seconds that connecting, and each answer, may take.
    :param client_name: What ``CLIENT LIST`` calls the connections, where the server allows it.
    :return: The pool. It is safe to use after a fork.
    :raises ConfigurationError: If a certificate's file cannot be read.
    """
    parts, query = urlsplit(config.url), config.url_options
    user, password = config.login
    options: dict[str, Any] = {
        **_tame(timeout),
        # A thread in mid-send holds one; a limit would turn a busy server into errors.
        "max_connections": 2**31,
        "username": user,
        "password": password,
        "redis_connect_func": _Greeting(client_name),
    }
    if parts.scheme == "unix":
        del options["socket_keepalive"]
        options |= {"path": unquote(parts.path), "db": int(query.get("db") or 0)}
        return redis.ConnectionPool(redis.UnixDomainSocketConnection, **options)
    tls = _tls(config) if config.ssl else {}
    if parts.scheme == "redis+sentinel":
        return _sentinel_pool(config, options, tls)
    return redis.ConnectionPool(
        redis.SSLConnection if config.ssl else redis.Connection,
        host=unquote(parts.hostname or "localhost"),
        port=parts.port or 6379,
        db=int(query.get("db") or parts.path.strip("/") or 0),
        **options,
        **tls,
    )


def _tame(timeout: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "protocol": 2,
    }


class _Greeting:
    """What a new connection says first: its login, then its name, which is no condition.

    redis-py's own ``client_name`` fails where the user may not run CLIENT SETNAME.
    """

    def __init__(self, client_name: str) -> None:
        self._name = client_name

    def __call__(self, raw: Any) -> None:
        raw.on_connect()
        if self._name:
            raw.send_command("CLIENT", "SETNAME", self._name, check_health=False)
            with suppress(ResponseError):
                raw.read_response()


def _tls(config: Config) -> dict[str, Any]:
    """:return: What redis-py wants to know of certificates; files are looked at here, once."""
    # redis-py 5 leaves the host name unchecked, so that any certificate of the CA would do.
    options: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    options |= {k: v for k, v in config.url_options.items() if k in SSL_OPTIONS}
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if value := getattr(config, name):
            options[name] = value
        path = options.get(name)
        if path and not os.access(path, os.R_OK):
            raise ConfigurationError(
                f"REDIS_{name.upper()} is {path!r}. There is no such file that can be read."
            )
    # Celery's spelling of the same option is CERT_NONE.
    options["ssl_cert_reqs"] = options["ssl_cert_reqs"].lower().removeprefix("cert_")
    checked = str(options["ssl_check_hostname"]).lower() not in ("0", "f", "false", "n", "no")
    options["ssl_check_hostname"] = checked and options["ssl_cert_reqs"] != "none"
    return options


def _sentinel_pool(
    config: Config, options: dict[str, Any], tls: dict[str, Any]
) -> redis.ConnectionPool:
    parts, query = urlsplit(config.url), config.url_options
    hosts, service, db = sentinels_of(parts.netloc, parts.path)
    # redis-py makes clients of these; without `retry` each would try a dead sentinel ten times.
    sentinel_options = {
        **_tame(min(options["socket_timeout"], _SENTINEL_ANSWERS)),
        "username": query.get("sentinel_username"),
        "password": query.get("sentinel_password"),
        **tls,
        "ssl": config.ssl,
    }
    sentinels = _Sentinels(hosts, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]
        service, sentinels, db=int(db), ssl=config.ssl, **options, **tls
    )


_SENTINEL_ANSWERS = 1.0
"""Seconds: a sentinel whose host has vanished must not keep us from the next."""


class _Sentinels(Sentinel):
    """Sentinels that say why they name no master; redis-py 6 puts passwords into that text.

    A pool asks them anew for each connection that it makes, and drops idle ones to an old master.
    """

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """:return: Host and port of the master, as the first sentinel that knows it says."""
        known: set[str] = set()
        trouble: RedisError | None = None
        for one in self.sentinels:
            try:
                masters: Any = one.sentinel_masters()
            except RedisError as error:
                trouble = error
                continue
            state = masters.get(service_name)
            # Not one that is known to be down: its heir is still being looked for.
            if state and state["is_master"] and not (state["is_sdown"] or state["is_odown"]):
                # A new list: other threads may be walking through the old one.
                self.sentinels = [one, *(other for other in self.sentinels if other is not one)]
                return state["ip"], state["port"]
            known |= set(masters)
        raise NoMaster(service_name, known, trouble)


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
    request's. So is one whose server has become a replica: the same address may lead elsewhere now.

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
    except ResponseError as error:
        if is_demoted(error):
            raw.disconnect()
        raise
    except BaseException:
        raw.disconnect()
        raise
    finally:
        pool.release(raw)


def close(pool: redis.ConnectionPool) -> None:
    """Close the connections that nobody uses; who uses one now may go on."""
    pool.disconnect(inuse_connections=False)


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
