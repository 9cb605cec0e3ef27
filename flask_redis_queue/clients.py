"""redis-py, tamed: own connections, no retries of its own, errors told apart.

redis-py 6 to 8 repeats a command by itself; behind a cut connection one LPUSH then leaves several
copies. Here nothing is repeated but by :func:`repeat`, and only what carries its own identity.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from .config import Config

Result = TypeVar("Result")
Kind = Literal["away", "wrong", "other"]

_AWAY = re.compile(
    r"^-?(LOADING|READONLY|MASTERDOWN|MISCONF|NOREPLICAS|CLUSTERDOWN|OOM|BUSY|UNBLOCKED|TRYAGAIN)\b"
)
_WRONG = re.compile(
    r"^-?(NOPERM|NOAUTH|WRONGPASS|WRONGTYPE|ERR unknown|ERR AUTH|ERR invalid password|ERR DB index)"
)


class NotSent(Exception):
    """The connection could not be made, so that nothing of the request left."""

    def __init__(self, cause: RedisError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def kind(error: BaseException) -> Kind:
    """Tell trouble that passes from trouble that lasts.

    :param error: What redis-py raised, or :class:`NotSent`.
    :return: ``"away"``: wait and try again. ``"wrong"``: a person must act. ``"other"``: neither.
    """
    if isinstance(error, NotSent):
        error = error.cause
    text = str(error)
    # AuthenticationError is a ConnectionError: a wrong password would look like an outage below.
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return "wrong"
    if is_full(error) or _AWAY.match(text):
        return "away"
    if _WRONG.match(text):
        return "wrong"
    if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
        return "away"
    return "other"


def is_full(error: BaseException) -> bool:
    """:return: Whether the server has no memory left; scripts say it in mid-text."""
    return isinstance(error, ResponseError) and (
        type(error).__name__ == "OutOfMemoryError" or "OOM command not allowed" in str(error)
    )


def is_doubtful(error: BaseException) -> bool:
    """:return: Whether the request may have been applied: it left, and no answer came."""
    return isinstance(error, (RedisConnectionError, RedisTimeoutError)) and not isinstance(
        error, (AuthenticationError, AuthorizationError, BusyLoadingError)
    )


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


def explain(error: BaseException, config: Config) -> str:
    """Say what is wrong with Redis, as the end of a sentence that begins "Redis at …".

    :param error: What redis-py raised, or :class:`NotSent`.
    :param config: Whose passwords are not shown.
    :return: For example ``refused the connection``.
    """
    if isinstance(error, NotSent):
        error = error.cause
    text = str(error)
    if isinstance(error, (AuthenticationError, AuthorizationError)) or _LOGIN.match(text):
        password = "password set, not shown" if config.has_password else "no password set"
        return f'refused user "{config.user}" ({password})'
    if isinstance(error, BusyLoadingError):
        return "is still loading its data"
    if is_full(error):
        return "is full: it has reached its maxmemory and takes no more"
    if isinstance(error, RedisTimeoutError):
        return "did not answer in time"
    for pattern, said in _SAID:
        if re.search(pattern, text):
            return said
    return f"answered: {text}" if isinstance(error, ResponseError) else f"failed: {text}"


_LOGIN = re.compile(r"^-?(NOAUTH|WRONGPASS|ERR AUTH|ERR invalid password)")
_SAID = (
    (r"Connection refused|Error 111|Error 61\b", "refused the connection"),
    (r"No such file or directory|Error 2\b", "is not there (no such socket)"),
    (r"Name or service|nodename nor|Temporary failure in name|Error -[23]\b", "has no such host"),
    (r"^-?READONLY", "is a replica, which takes no writes"),
    (r"^-?MASTERDOWN", "is a replica that has lost its master"),
    (r"^-?MISCONF", "takes no writes, because it cannot save to its disk"),
    (r"^-?NOREPLICAS", "takes no writes, because it has too few replicas"),
    (r"max number of clients", "has no connection left (maxclients)"),
    (r"closed by server|reset by peer|Broken pipe|Connection has data", "closed the connection"),
)


def refusal(error: BaseException, config: Config) -> str:
    """Say why it is no use to try again, and what would help.

    :param error: Trouble that lasts.
    :param config: Where Redis is, and as whom this app logs in.
    :return: One or two sentences.
    """
    text = str(error.cause if isinstance(error, NotSent) else error)
    command = _NO_COMMAND.search(text)
    if command is not None:
        name = command[1].lower()
        return (
            f'User "{config.user}" may not run {name.upper()} on Redis at {config.safe_url}. '
            f"An admin can run: ACL SETUSER {config.user} +{name}"
        )
    if "key" in text and "permission" in text.lower():
        return (
            f'User "{config.user}" may not use the keys of its queues on Redis at '
            f"{config.safe_url}. An admin can run, for each queue: "
            f"ACL SETUSER {config.user} ~QUEUE ~{{QUEUE}}:*"
        )
    return f"Redis at {config.safe_url} {explain(error, config)}. Not retrying."


_NO_COMMAND = re.compile(r"no permissions to run the '([a-zA-Z|]+)' command")
