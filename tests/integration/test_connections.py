"""Servers that have changed, that answer oddly, and that are none."""

from __future__ import annotations

import socket
import threading

import pytest
import redis

from flask_redis_queue import (
    QueueRefused,
    clients,
    config,
    diagnosis,
)

from ..apps import make_app
from ..servers import RealServer
from .reaching import handled_there, send_refused


def test_connection_to_a_demoted_master_is_dropped(own_server: RealServer) -> None:
    """READONLY ends a plain connection too: behind the same name may stand another server now."""
    settings = config.load({"REDIS_URL": own_server.url})
    pool = clients.make_pool(settings, 20.0)
    with clients.connection(pool) as link:
        first = link.call("CLIENT", "ID")
    own_server.client().replicaof("127.0.0.1", "1")
    with pytest.raises(redis.RedisError) as caught, clients.connection(pool) as link:
        link.call("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "key")
    assert ("away", False) == (diagnosis.kind(caught.value), diagnosis.is_doubtful(caught.value))
    assert "is a replica, which takes no writes" == diagnosis.explain(caught.value, settings)
    with clients.connection(pool) as link:
        assert first != link.call("CLIENT", "ID")


def test_name_and_library_may_be_refused(own_server: RealServer) -> None:
    """A user that may not run CLIENT is let in; where it may, CLIENT LIST shows the name."""
    rules = ("on", ">pw", "~*", "+@all", "-client")
    own_server.client().execute_command("ACL", "SETUSER", "shop", *rules)
    url = own_server.url.replace("redis://", "redis://shop:pw@")
    with clients.connection(
        clients.make_pool(config.load({"REDIS_URL": url}), 20.0, "shop")
    ) as link:
        assert b"PONG" == link.call("PING")
    with clients.connection(
        clients.make_pool(config.load({"REDIS_URL": own_server.url}), 20.0, "shop")
    ) as link:
        assert b"shop" == link.call("CLIENT", "GETNAME")


def test_options_for_others_change_nothing(redis_url: str) -> None:
    """A URL that is shared with other programs may say how they want their replies."""
    url = f"{redis_url}?decode_responses=true&protocol=3&health_check_interval=1&retry_on_timeout=1"
    assert 1 == handled_there(*make_app(url))


def test_what_no_redis_answers() -> None:
    """A port of something else is told apart from an outage."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(100)
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                while link.recv(100):  # to close on what was not read would cut the answer off
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        error = send_refused(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        thread.join()
    assert "does not speak Redis's protocol" in str(error)


def test_unknown_database(redis_url: str) -> None:
    """A database that the server does not have is for a person."""
    error = send_refused(redis_url.replace("/0", "/99"))
    assert QueueRefused is type(error)
    assert "DB index is out of range" in str(error)
