"""The settings of one app's queue, read once into a frozen object.

The only room that reads ``app.config`` and the environment. Connection keys are one group: if
``app.config`` has any of them, the environment is not asked for the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from .durations import seconds
from .envelope import FORMATS, Format
from .exceptions import ConfigurationError
from .keys import check_queue_name
from .retry import RetryCallable, RetryPolicy, as_policy

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``REDIS_*`` says, checked. The table in the README explains each key."""

    url: str = ""
    origin: str = "default"
    username: str | None = None
    password: str | None = None
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
        """:return: The URL without its password, for people."""
        parts = urlsplit(self.url)
        if "@" not in parts.netloc:
            return self.url
        user, _, host = parts.netloc.rpartition("@")
        name = user.partition(":")[0]
        return urlunsplit(parts._replace(netloc=f"{name}@{host}" if name else host))

    @property
    def user(self) -> str:
        """:return: The Redis user that this app logs in as."""
        return self.username or urlsplit(self.url).username or "default"

    @property
    def has_password(self) -> bool:
        """:return: Whether a password is set."""
        return bool(self.password or urlsplit(self.url).password)


def load(settings: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Config:
    """Read and check everything.

    :param settings: ``app.config``.
    :param environ: The environment; ``os.environ`` if not given.
    :return: The configuration.
    :raises ConfigurationError: For a bad value: its key, where it came from, and what is allowed.
    """
    reader = _Reader(settings, os.environ if environ is None else environ)
    values: dict[str, Any] = {"url": "", **_connection(reader)}
    for name, (key, check) in _KEYS.items():
        found, _ = reader.find(key)
        if found is not _MISSING:
            values[name] = reader.checked(key, check)
    known = {f.name for f in fields(Config)}
    return Config(**{k: v for k, v in values.items() if k in known})


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
            shown = (
                "a value that is not shown" if "PASSWORD" in key or "URL" in key else repr(value)
            )
            raise ConfigurationError(
                f"{key} (from {origin}) is {shown}. {_reason(error, key)}"
            ) from None


def _reason(error: Exception, key: str) -> str:
    # Checks that name the value themselves say "<key> is 'x'. What is allowed."
    return re.sub(rf"^{key} is .*?\. (?=[A-Z])", "", str(error))


def _connection(reader: _Reader) -> dict[str, Any]:
    """Make one URL and what cannot stand in it; the origin is told to people."""
    found: dict[str, Any] = {}
    origins = {reader.find(key)[1] for key in _CONNECTION} - {"default"}
    found["origin"] = ", ".join(sorted(origins)) or "default"
    found["username"] = reader.checked("REDIS_USERNAME", _string)
    found["password"] = reader.checked("REDIS_PASSWORD", _password)
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        found[name] = reader.checked(f"REDIS_{name.upper()}", _string)
    for key in ("REDIS_QUEUE_URL", "REDIS_URL"):
        if reader.find(key)[0] is not _MISSING:
            return {**found, "url": reader.checked(key, _url)}
    host = reader.checked("REDIS_HOST", _string) or "localhost"
    port = reader.checked("REDIS_PORT", _whole(1, 65535)) or 6379
    db = reader.checked("REDIS_DB", _whole(0, 1_000_000)) or 0
    scheme = "rediss" if reader.checked("REDIS_SSL", _boolean) else "redis"
    host = f"[{host}]" if ":" in host else quote(host, safe=".-_")
    return {**found, "url": f"{scheme}://{host}:{port}/{db}"}


def _url(value: Any) -> str:
    parts = urlsplit(_string(value))
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"Use a URL that begins with {', '.join(s + '://' for s in _SCHEMES)}.")
    if parts.scheme != "redis+sentinel":
        try:
            parts.port  # noqa: B018  (raises for a port that is no number)
        except ValueError:
            raise ValueError("Its port is not a number from 0 to 65535.") from None
    return str(value)


def _string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("Use a string.")
    return value


def _password(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"It is {type(value).__name__}, not a string. Put quotes around it: "
            'REDIS_PASSWORD = "…".'
        )
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    lowered = str(value).strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError("Use True or False.")


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
    for known in FORMATS:
        if value == known:
            return known
    raise ValueError(f"Use one of {', '.join(FORMATS)}.")


def _queue(value: Any) -> str:
    return check_queue_name(value, where="REDIS_QUEUE_NAME")


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
    "queue_name": ("REDIS_QUEUE_NAME", _queue),
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
