"""The settings of one app's queue, read once into a frozen object.

The only room that reads ``app.config`` and the environment. Connection keys are one group: if
``app.config`` has any of them, the environment is not asked for the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from .durations import seconds
from .envelope import FORMATS, Format
from .exceptions import ConfigurationError
from .keys import check_queue_name
from .retry import RetryCallable, RetryPolicy, as_policy

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
SSL_OPTIONS = (
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_ca_path"),
    *("ssl_certfile", "ssl_keyfile", "ssl_password"),
)
"""What of TLS a URL may say; of other options only database and login count."""
_ESCAPE = 'In a password, write "/", "?", "#", "@" and ":" as %2F, %3F, %23, %40 and %3A.'
_NAME = r"[\w-]{1,63}(\.[\w-]{1,63})*\.?"
_YES = ("1", "true", "yes", "on")
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``REDIS_*`` says, checked. The table in the README explains each key."""

    # What may hold a password is not in the repr, which error reports like to show.
    url: str = field(default="", repr=False)
    origin: str = "default"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl: bool = False
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    queue_name: str = "inventory_updates"
    format: Format = "cloudevents"
    prefetch: int = 100
    lease: float = 15.0
    max_deliveries: int = 5
    retry: RetryPolicy | RetryCallable = field(default_factory=RetryPolicy)
    max_bytes: int = 1024 * 1024
    max_length: int = 0
    send_timeout: float = 0.5
    dedup_window: float = 600.0
    dead_max: int = 0
    stop_timeout: float = 25.0

    @property
    def safe_url(self) -> str:
        """:return: The URL for people: no password, and of its options only the database."""
        parts = urlsplit(self.url)
        user, _, hosts = parts.netloc.rpartition("@")
        name, db = user.partition(":")[0], self.url_options.get("db")
        shown = f"{name}@{hosts}" if name else hosts
        return f"{parts.scheme}://{shown}{parts.path}{f'?db={db}' if db else ''}"

    @property
    def url_options(self) -> dict[str, str]:
        """:return: What stands behind the URL's question mark."""
        return dict(parse_qsl(urlsplit(self.url).query))

    @property
    def login(self) -> tuple[str | None, str | None]:
        """:return: User and password. A key of its own wins over the URL."""
        name, _, password = urlsplit(self.url).netloc.rpartition("@")[0].partition(":")
        find = self.url_options.get
        found = self.username or unquote(name) or find("username")
        return found, self.password or unquote(password) or find("password")

    @property
    def user(self) -> str:
        """:return: The Redis user that this app logs in as."""
        return self.login[0] or "default"


def load(settings: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Config:
    """Read and check everything.

    :param settings: ``app.config``.
    :param environ: The environment; ``os.environ`` if not given.
    :return: The configuration.
    :raises ConfigurationError: For a bad value: its key, where it came from, and what is allowed.
    """
    reader = _Reader(settings, os.environ if environ is None else environ)
    values = _connection(reader)
    for name, (key, check) in _KEYS.items():
        if reader.find(key)[0] is not _MISSING:
            values[name] = reader.checked(key, check)
    return Config(**values)


class _Reader:
    def __init__(self, settings: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.environ = environ
        self.connection_in_app = any(settings.get(key) is not None for key in _CONNECTION)

    def find(self, key: str) -> tuple[Any, str]:
        if self.settings.get(key) is not None:
            return self.settings[key], "app.config"
        if key in _CONNECTION and self.connection_in_app:
            return _MISSING, "default"
        value = self.environ.get(key, "")
        # Kubernetes sets REDIS_PORT=tcp://10.0.0.1:6379 for any service that is named "redis".
        if value == "" or (key == "REDIS_PORT" and value.startswith("tcp://")):
            return _MISSING, "default"
        return value, "the environment"

    def checked(self, key: str, check: Callable[[Any], Any]) -> Any:
        value, origin = self.find(key)
        if value is _MISSING:
            return None
        try:
            return check(value)
        except (ValueError, TypeError) as error:
            # A URL with its password may stand in the wrong key, too.
            secret = "PASSWORD" in key or "URL" in key or "@" in str(value)
            shown = "a value that is not shown" if secret else repr(value)
            # Checks that name the value themselves say "<key> is 'x'. What is allowed."
            reason = re.sub(rf"^({key}|duration) is .*?\. (?=[A-Z])", "", str(error))
            raise ConfigurationError(f"{key} (from {origin}) is {shown}. {reason}") from None


def _connection(reader: _Reader) -> dict[str, Any]:
    """Make one URL and what cannot stand in it; the origin is told to people."""
    origins = {reader.find(key)[1] for key in _CONNECTION} - {"default"}
    found: dict[str, Any] = {"origin": ", ".join(sorted(origins)) or "default"}
    found["password"] = reader.checked("REDIS_PASSWORD", _password)
    for name in ("username", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        found[name] = reader.checked(f"REDIS_{name.upper()}", _optional)
    ssl = bool(reader.checked("REDIS_SSL", _boolean))
    for key in ("REDIS_QUEUE_URL", "REDIS_URL"):
        if reader.find(key)[0] is not _MISSING:
            url = reader.checked(key, _url)
            scheme = url.partition(":")[0]
            if ssl and scheme in ("redis", "unix"):
                raise ConfigurationError(
                    f"REDIS_SSL (from {reader.find('REDIS_SSL')[1]}) is True, but {key} begins "
                    f"with {scheme}://, which is not encrypted. Use rediss:// there."
                )
            return {**found, "url": url, "ssl": ssl or scheme == "rediss"}
    host = reader.checked("REDIS_HOST", _host) or "localhost"
    port = reader.checked("REDIS_PORT", _whole(1, 65535)) or 6379
    db = reader.checked("REDIS_DB", _whole(0, 1_000_000)) or 0
    host = f"[{host}]" if ":" in host else quote(host, safe=".-_")
    return {**found, "url": f"redis{'s' if ssl else ''}://{host}:{port}/{db}", "ssl": ssl}


def _url(value: Any) -> str:
    url = _string(value)
    try:
        parts = urlsplit(url)
        port = None if parts.scheme == "redis+sentinel" else parts.port
    except ValueError:  # its text may show what stands before the host
        raise ValueError(f"Its host or port cannot be read. {_ESCAPE}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"Use a URL that begins with {', '.join(s + '://' for s in _SCHEMES)}.")
    lost = parts.path + parts.query.partition("=")[0]  # where a password may end that holds / or ?
    if parts.fragment or port == 0 or ("@" in lost and parts.scheme != "unix"):
        raise ValueError(_ESCAPE)
    options = dict(parse_qsl(parts.query))
    if unknown := [one for one in options if one[:4] == "ssl_" and one not in SSL_OPTIONS]:
        raise ValueError(f'Its option "{unknown[0]}" is not one of {", ".join(SSL_OPTIONS)}.')
    db = options.get("db", "0")
    if parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
            raise ValueError("After unix:// goes an absolute path: unix:///run/redis.sock?db=0.")
    elif parts.scheme == "redis+sentinel":
        db = sentinels_of(parts.netloc, parts.path)[2]
    else:
        db = options.get("db", parts.path.strip("/") or "0")
        _host(unquote(parts.hostname or "localhost"))
    if not re.fullmatch(r"[0-9]{1,7}", db, re.ASCII):
        raise ValueError("Its database is not a number.")
    return url


def sentinels_of(netloc: str, path: str) -> tuple[list[tuple[str, int]], str, str]:
    """:return: Sentinels, service and database of ``redis+sentinel://host:port,host:port/x/0``."""
    service, _, db = path.strip("/").partition("/")
    found = []
    for one in netloc.rpartition("@")[2].split(","):
        match = re.fullmatch(rf"(?P<host>\[[0-9a-fA-F:.]+\]|{_NAME})(:(?P<port>\d{{1,5}}))?", one)
        if match is None or not service:
            raise ValueError("Use redis+sentinel://host:port,host:port/service.")
        found.append((match["host"].strip("[]"), int(match["port"] or 26379)))
    return found, unquote(service), db or "0"


def _host(value: Any) -> str:
    host = _string(value).strip("[]")
    if not re.fullmatch(_NAME if host.count(":") < 2 else r"[0-9a-fA-F:.]+(%\w+)?", host):
        raise ValueError("Use a host name or an IP address; a URL goes into REDIS_URL.")
    return host


def _optional(value: Any) -> str | None:
    return None if value == "" else _string(value)


def _string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("Use a string that is not empty.")
    return value


def _password(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"It is {type(value).__name__}, not a string. Put quotes around it: "
            'REDIS_PASSWORD = "…".'
        )
    return value


def _boolean(value: Any) -> bool:
    lowered = str(value).strip().lower()
    if lowered not in (*_YES, "0", "false", "no", "off"):
        raise ValueError("Use True or False.")
    return lowered in _YES


def _whole(low: int, high: int = 2**53) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}", value.strip(), re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            limit = f"from {low}" if high >= 2**53 else f"from {low} to {high}"
            raise ValueError(f"Use a whole number {limit}.")
        return value

    return check


def _duration(low: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        found = seconds(value)
        if found < low:
            raise ValueError(f"Use at least {low:g} seconds.")
        return found

    return check


def _bytes(value: Any) -> int:
    match = re.fullmatch(r"\s*([0-9]{1,15})\s*(?:([kKmM])(?:i?[bB])?)?\s*", str(value), re.ASCII)
    if match is None or isinstance(value, (bool, float)):
        raise ValueError('Use a number of bytes, or text such as "512k" or "1M".')
    size = int(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[(match[2] or "").lower()]
    if not 1024 <= size <= 256 * 1024**2:
        raise ValueError("Use 1 KiB to 256 MiB.")
    return size


def _format(value: Any) -> Format:
    if value not in FORMATS:
        raise ValueError(f"Use one of {', '.join(FORMATS)}.")
    return next(known for known in FORMATS if known == value)


def _retry(value: Any) -> RetryPolicy | RetryCallable:
    if isinstance(value, str):
        value = _whole(1)(value)
    return as_policy(value, RetryPolicy())


_CONNECTION = (
    *("REDIS_QUEUE_URL", "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB"),
    *("REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_SSL"),
    *("REDIS_SSL_CA_CERTS", "REDIS_SSL_CERTFILE", "REDIS_SSL_KEYFILE"),
)
_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "queue_name": ("REDIS_QUEUE_NAME", partial(check_queue_name, where="REDIS_QUEUE_NAME")),
    "format": ("REDIS_QUEUE_FORMAT", _format),
    "prefetch": ("REDIS_QUEUE_PREFETCH", _whole(1, 1000)),
    "lease": ("REDIS_QUEUE_LEASE", _duration(0.5)),
    "max_deliveries": ("REDIS_QUEUE_MAX_DELIVERIES", _whole(1, 1_000_000)),
    "retry": ("REDIS_QUEUE_RETRY", _retry),
    "max_bytes": ("REDIS_QUEUE_MAX_BYTES", _bytes),
    "max_length": ("REDIS_QUEUE_MAX_LENGTH", _whole(1)),
    "send_timeout": ("REDIS_QUEUE_SEND_TIMEOUT", _duration(0.01)),
    "dedup_window": ("REDIS_QUEUE_DEDUP_WINDOW", _duration(1)),
    "dead_max": ("REDIS_QUEUE_DEAD_MAX", _whole(1)),
    "stop_timeout": ("REDIS_QUEUE_STOP_TIMEOUT", _duration(0)),
}
