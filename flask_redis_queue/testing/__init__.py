"""pytest fixtures for apps that send and handle messages: no Redis, no threads, no waiting.

Enable them with ``-p flask_redis_queue.testing``, or in the tests' ``conftest.py``::

    pytest_plugins = ["flask_redis_queue.testing"]

They stand on a fixture named ``app``, as pytest-flask's do. The codec, the registry, the schemas,
the retry policy and the scripts are the real ones; only the server is fakeredis.

Tests import from here for annotations, which pytest would warn of: PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask

from ..server import EmbeddedServer
from .servers import embedded, fake
from .tester import QueueTester

try:
    import pytest
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'The fixtures need pytest: pip install "Flask-Redis-Queue[testing]"', name=error.name
    ) from error

__all__ = ["QueueTester", "real_redis_queue", "redis_queue", "redis_queue_server"]


@pytest.fixture
def redis_queue(app: Flask) -> Iterator[QueueTester]:
    """The queue of ``app``, on an empty fakeredis.

    :return: What sends, drains and asserts.
    """
    with QueueTester(app, fake()) as tester:
        yield tester


@pytest.fixture(scope="session")
def redis_queue_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server for ``real_redis_queue``; needs the ``embedded`` extra or one on PATH.

    :return: Its URL.
    """
    with EmbeddedServer(tmp_path_factory.mktemp("redis-queue"), persist=False) as url:
        yield url


@pytest.fixture
def real_redis_queue(app: Flask, redis_queue_server: str) -> Iterator[QueueTester]:
    """The queue of ``app``, on an emptied real server, with the same methods.

    :return: What sends, drains and asserts.
    """
    with QueueTester(app, embedded(redis_queue_server)) as tester:
        yield tester
