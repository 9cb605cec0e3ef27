"""Where a tested queue lives: fakeredis, or an embedded server. Both are emptied first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import redis

from .. import clients
from ..config import Config

try:
    import fakeredis
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'The fixtures need fakeredis: pip install "Flask-Redis-Queue[testing]"', name=error.name
    ) from error

MakePool = Callable[[Config, float, str], redis.ConnectionPool]

# One for all tests: it costs more to make than to empty.
_fake: redis.ConnectionPool = fakeredis.FakeRedis(
    server=fakeredis.FakeServer(), protocol=2
).connection_pool


def fake() -> MakePool:
    """Empty the fake server.

    :return: What makes connections to it.
    """
    with clients.connection(_fake) as link:
        link.call("FLUSHALL")

    def make_pool(config: Config, timeout: float, client_name: str = "") -> redis.ConnectionPool:
        return _fake

    return make_pool


def embedded(url: str) -> MakePool:
    """Empty a real server.

    :param url: Where it is.
    :return: What makes connections to it.
    """
    with redis.Redis.from_url(url) as client:
        client.flushall()

    def make_pool(config: Config, timeout: float, client_name: str = "") -> redis.ConnectionPool:
        own = replace(config, url=url, username=None, password=None)
        return clients.make_pool(own, timeout, client_name)

    return make_pool
