"""The settings: where they come from, what is refused with which words, and what is never shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from flask_redis_queue import ConfigurationError, RetryPolicy
from flask_redis_queue.config import Config, load

SECRET = "s3cr3t"


def refusal(settings: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> str:
    """:return: What the configuration is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        load(settings, environ or {})
    return str(caught.value)


def test_defaults() -> None:
    """Nothing set: a Redis on this machine, and what the README says."""
    config = load({}, {})
    assert ("redis://localhost:6379/0", "default") == (config.url, config.origin)
    assert ("inventory_updates", "cloudevents", 15.0) == (
        config.queue_name,
        config.format,
        config.lease,
    )
    assert (0.5, 600.0, 25.0, 1024 * 1024) == (
        config.send_timeout,
        config.dedup_window,
        config.stop_timeout,
        config.max_bytes,
    )
    assert ("default", (None, None)) == (config.user, config.login)


def test_app_before_environment_before_default() -> None:
    """Each key by itself is looked for in app.config first; None is as good as absent."""
    environ = {"REDIS_QUEUE_NAME": "env", "REDIS_QUEUE_LEASE": "30s", "REDIS_QUEUE_PREFETCH": ""}
    config = load({"REDIS_QUEUE_NAME": "app", "REDIS_QUEUE_LEASE": None}, environ)
    assert ("app", 30.0, Config().prefetch) == (config.queue_name, config.lease, config.prefetch)


@pytest.mark.parametrize(
    ("settings", "environ", "url", "origin"),
    [
        ({}, {"REDIS_URL": "redis://e:1/2"}, "redis://e:1/2", "the environment"),
        ({"REDIS_URL": "redis://a:1/0"}, {"REDIS_QUEUE_URL": "redis://e:1/0"}, "redis://a:1/0", ""),
        (
            {"REDIS_DB": 3},
            {"REDIS_HOST": "e", "REDIS_PASSWORD": "x"},
            "redis://localhost:6379/3",
            "",
        ),
        ({"REDIS_URL": "redis://u/0", "REDIS_QUEUE_URL": "redis://q/0"}, {}, "redis://q/0", ""),
        ({"REDIS_URL": "redis://u/0", "REDIS_HOST": "h"}, {}, "redis://u/0", ""),
        ({"REDIS_HOST": "h", "REDIS_PORT": "7000", "REDIS_SSL": True}, {}, "rediss://h:7000/0", ""),
        ({}, {"REDIS_HOST": "h", "REDIS_SSL": "yes"}, "rediss://h:6379/0", "the environment"),
        ({"REDIS_HOST": "::1"}, {}, "redis://[::1]:6379/0", ""),
        ({"REDIS_HOST": "[::1]"}, {}, "redis://[::1]:6379/0", ""),
    ],
)
def test_connection_keys_are_one_group(
    settings: dict[str, Any], environ: dict[str, str], url: str, origin: str
) -> None:
    """If app.config has any of them, the environment is not asked for the others."""
    config = load(settings, environ)
    assert (url, origin or "app.config") == (config.url, config.origin)
    assert config.password is None
    assert url.startswith("rediss") == config.ssl


def test_kubernetes_port_is_skipped() -> None:
    """REDIS_PORT=tcp://… in the environment is a service's address; in app.config, a mistake."""
    environ = {"REDIS_PORT": "tcp://10.0.0.1:6379", "REDIS_HOST": "h"}
    assert "redis://h:6379/0" == load({}, environ).url
    assert (
        "REDIS_PORT (from app.config) is 'tcp://10.0.0.1:6379'. Use a whole number from 1 to 65535."
    ) == refusal({"REDIS_PORT": "tcp://10.0.0.1:6379"})


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("REDIS_HOST", "h:6380", "Use a host name or an IP address; a URL goes into REDIS_URL."),
        ("REDIS_HOST", "cafe:6380", "Use a host name or an IP address; a URL goes into REDIS_URL."),
        ("REDIS_HOST", "a..b", "Use a host name or an IP address; a URL goes into REDIS_URL."),
        ("REDIS_PORT", 0, "Use a whole number from 1 to 65535."),
        ("REDIS_PORT", True, "Use a whole number from 1 to 65535."),
        ("REDIS_DB", -1, "Use a whole number from 0 to 1000000."),
        ("REDIS_SSL", "maybe", "Use True or False."),
        ("REDIS_SSL_CA_CERTS", 5, "Use a string that is not empty."),
        ("REDIS_QUEUE_FORMAT", "xml", "Use one of cloudevents, plain."),
        ("REDIS_QUEUE_PREFETCH", 0, "Use a whole number from 1 to 1000."),
        ("REDIS_QUEUE_LEASE", "1ms", "Use at least 0.5 seconds."),
        ("REDIS_QUEUE_MAX_DELIVERIES", 1.5, "Use a whole number from 1 to 1000000."),
        ("REDIS_QUEUE_MAX_BYTES", "9G", 'Use a number of bytes, or text such as "512k" or "1M".'),
        ("REDIS_QUEUE_MAX_BYTES", 12, "Use 1 KiB to 256 MiB."),
        ("REDIS_QUEUE_MAX_LENGTH", 0, "Use a whole number from 1."),
    ],
)
def test_bad_value_names_key_origin_value_and_what_is_allowed(
    key: str, value: Any, allowed: str
) -> None:
    """One sentence for what is wrong, one for what is right, from either source."""
    assert f"{key} (from app.config) is {value!r}. {allowed}" == refusal({key: value})
    if isinstance(value, str):
        assert f"{key} (from the environment) is {value!r}. {allowed}" == refusal({}, {key: value})


@pytest.mark.parametrize(
    "key", ["REDIS_QUEUE_NAME", "REDIS_QUEUE_RETRY", "REDIS_QUEUE_SEND_TIMEOUT"]
)
def test_checks_of_other_rooms_say_it_once(key: str) -> None:
    """Names, retries and durations have their own words; key, origin and value come first."""
    said = refusal({key: "not {this}"})
    assert said.startswith(f"{key} (from app.config) is 'not {{this}}'. ")
    assert 1 == said.count("not {this}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "Use a string that is not empty."),
        ("localhost:6379", "Use a URL that begins with redis://, rediss://, unix://, redis+sent"),
        (f"http://:{SECRET}@h", "Use a URL that begins with redis://"),
        (f"redis://:{SECRET}@h:port/0", "Its host or port cannot be read."),
        (f"redis://:{SECRET}@h:99999/0", "Its host or port cannot be read."),
        (f"redis://:{SECRET}@[::1/0", "Its host or port cannot be read."),
        (f"redis://:12#{SECRET}@h/0", 'In a password, write "/"'),
        (f"redis://:12/{SECRET}@h/0", 'In a password, write "/"'),
        (f"redis://:12?{SECRET}@h/0", 'In a password, write "/"'),
        (f"redis://:{SECRET}@h/zero", "Its database is not a number."),
        (f"redis://:{SECRET}@h/0?ssl_no=1", 'Its option "ssl_no" is not one of ssl_cert_reqs'),
        (f"redis://:{SECRET}@a..b/0", "Use a host name or an IP address"),
        (f"redis+sentinel://:{SECRET}@h:1,h:2", "Use redis+sentinel://host:port,host:port/serv"),
        (f"redis+sentinel://:{SECRET}@h:1,,h:2/x", "Use redis+sentinel://host:port,host:port/s"),
        (f"redis+sentinel://:{SECRET}@h:1/x/zero", "Its database is not a number."),
        ("unix://redis.sock", "After unix:// goes an absolute path"),
    ],
)
def test_bad_url_is_not_shown(url: str, said: str) -> None:
    """A URL may hold a password, also a broken one: it is named, never repeated."""
    text = refusal({"REDIS_URL": url})
    assert text.startswith(f"REDIS_URL (from app.config) is a value that is not shown. {said}")
    assert SECRET not in text


def test_url_in_the_wrong_key_is_not_shown() -> None:
    """Nor is it where a person put it by mistake."""
    text = refusal({"REDIS_HOST": f"redis://:{SECRET}@h"})
    assert ("REDIS_URL" in text, SECRET in text) == (True, False)


def test_password_that_is_no_string() -> None:
    """It says how to quote it, and not what it is; from the environment it is always text."""
    text = refusal({"REDIS_PASSWORD": 123456})
    assert "REDIS_PASSWORD (from app.config) is a value that is not shown. It is int" in text
    assert 'REDIS_PASSWORD = "…"' in text
    assert "123456" not in text
    assert "123456" == load({}, {"REDIS_PASSWORD": "123456"}).login[1]


def test_encryption_that_would_not_happen() -> None:
    """REDIS_SSL beside a redis:// URL is refused: somebody believes the way to be encrypted."""
    assert "Use rediss:// there." in refusal({"REDIS_URL": "redis://h/0", "REDIS_SSL": True})
    assert load({"REDIS_URL": "redis+sentinel://h/x", "REDIS_SSL": True}, {}).ssl
    assert not load({"REDIS_URL": "redis+sentinel://h/x"}, {}).ssl


@pytest.mark.parametrize(
    ("url", "safe", "login"),
    [
        (f"redis://:{SECRET}@h:1/0", "redis://h:1/0", (None, SECRET)),
        (f"redis://shop:{SECRET}@h/1", "redis://shop@h/1", ("shop", SECRET)),
        (f"redis://a%40b:{SECRET}%2F@h/1", "redis://a%40b@h/1", ("a@b", f"{SECRET}/")),
        (f"redis://h/0?password={SECRET}&username=u", "redis://h/0", ("u", SECRET)),
        (f"rediss://h/0?ssl_password={SECRET}", "rediss://h/0", (None, None)),
        (f"unix://:{SECRET}@/run/r.sock?db=2", "unix:///run/r.sock?db=2", (None, SECRET)),
        (f"unix:///run/r.sock?db=2&password={SECRET}", "unix:///run/r.sock?db=2", (None, SECRET)),
        (
            f"redis+sentinel://u:{SECRET}@h:1,h:2/x?sentinel_password={SECRET}",
            "redis+sentinel://u@h:1,h:2/x",
            ("u", SECRET),
        ),
    ],
)
def test_passwords_are_never_shown(url: str, safe: str, login: tuple[Any, Any]) -> None:
    """Neither in the URL for people nor in the repr that error reports like."""
    config = load({"REDIS_URL": url}, {})
    assert (safe, login) == (config.safe_url, config.login)
    assert SECRET not in repr(config)
    assert SECRET not in repr(load({"REDIS_HOST": "h", "REDIS_PASSWORD": SECRET}, {}))


def test_login_of_its_own_wins_over_the_url() -> None:
    """REDIS_USERNAME and REDIS_PASSWORD beside a URL; empty ones are none."""
    own = {"REDIS_URL": "redis://a:b@h/0", "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p"}
    assert ("u", "p") == load(own, {}).login
    empty = {"REDIS_URL": "redis://a:b@h/0", "REDIS_USERNAME": "", "REDIS_PASSWORD": ""}
    assert ("a", "b") == load(empty, {}).login


def test_values_in_every_spelling() -> None:
    """Text from the environment means what its Python value means."""
    text = {
        "REDIS_QUEUE_LEASE": "1m",
        "REDIS_QUEUE_RETRY": "3",
        "REDIS_QUEUE_MAX_BYTES": "512k",
        "REDIS_QUEUE_DEAD_MAX": " 7 ",
    }
    values = {
        "REDIS_QUEUE_LEASE": timedelta(minutes=1),
        "REDIS_QUEUE_RETRY": 3,
        "REDIS_QUEUE_MAX_BYTES": 512 * 1024,
        "REDIS_QUEUE_DEAD_MAX": 7,
    }
    assert load(values, {}) == load({}, text)
    assert RetryPolicy(max_attempts=3) == load({}, text).retry
