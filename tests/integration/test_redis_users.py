"""Who may log in at the image's server, and what for."""

from __future__ import annotations

import json
import re
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from flask_redis_queue import (
    QueueRefused,
    Reject,
    Retry,
    current_message,
)
from flask_redis_queue.cli import consume
from flask_redis_queue.cli import queue as queue_command

from ..apps import GOODS, QUEUE, StockSupplied
from .image import ENTRYPOINT, ROOT, ImageServer, flask, status


def test_nobody_comes_in_without_the_password(server: ImageServer) -> None:
    """An anonymous client, a wrong password and the default user are refused."""
    server.start()
    _anonymous_is_refused(server)
    nobody = {"username": "default", "password": ""}
    for wrong in ({"password": "wrong"}, {"username": "default"}, {"username": "other"}, nobody):
        with server.client(**wrong) as client, pytest.raises(AuthenticationError, match="invalid"):
            client.ping()
    app, queue = server.app(REDIS_PASSWORD="wrong")
    with app.app_context(), pytest.raises(QueueRefused, match='refused user "queue"'):
        queue.send(StockSupplied, GOODS)


def test_other_machines_may_log_in(server: ImageServer) -> None:
    """With the image's --bind a password opens the server from outside, and nothing else does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, only asks for the way there
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    server.start()
    with server.client(host=address) as client:
        assert client.ping()
    _anonymous_is_refused(server, host=address)


def _anonymous_is_refused(server: ImageServer, **where: str) -> None:
    with (
        server.client(username=None, password=None, **where) as anonymous,
        pytest.raises(AuthenticationError, match="Authentication required"),
    ):
        anonymous.ping()


def test_the_password_is_kept_from_others(server: ImageServer) -> None:
    """The file of users holds a digest and is private; the server does not inherit the password."""
    server.start()
    assert server.process is not None
    assert 0o600 == stat.S_IMODE(server.users.stat().st_mode)
    kept = server.users.read_bytes()
    environ = Path("/proc", str(server.process.pid), "environ")
    if environ.exists():
        kept += environ.read_bytes()
    assert server.password.encode() not in kept


def test_the_queue_user_may_do_all_that_a_queue_needs(server: ImageServer) -> None:
    """It sends, consumes, retries, looks, and brings dead letters back, by the public commands."""
    server.start()
    app, queue = server.app(REDIS_QUEUE_DEAD_MAX=2)
    broken: list[bool] = [True]
    retried: list[int] = []
    got: list[int] = []

    @queue.handler(StockSupplied)
    def handle(supplied: dict[str, Any]) -> None:
        if supplied["quantity"] == 7 and not retried:
            retried.append(current_message.attempt)
            raise Retry(0.01)
        if broken and supplied["quantity"] < 5:
            raise Reject("not while it is broken")
        got.append(supplied["quantity"])

    with app.app_context():
        queue.send(StockSupplied, {**GOODS, "quantity": 7}, id="seven", expires="1h")
        queue.send(StockSupplied, {**GOODS, "quantity": 8}, delay=0.01, dedup="eight")
        queue.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in range(5)])
    for _ in range(20):
        if len(got) == 2:
            break
        result = flask(app, consume, "--burst")
        assert result.exit_code in (0, 6), (result.output, result.exception)
    assert "noeviction" in result.output
    assert ([1], [7, 8]) == (retried, sorted(got))
    found = status(app)
    assert (2, 0, 3) == (found["dead"], found["missing"], found["ledger"]["purged"])
    listed = flask(app, queue_command, "dead", "list", "--json")
    dead = json.loads(listed.output)
    assert ["rejected"] * 2 == [one["cause"] for one in dead]
    assert 0 == flask(app, queue_command, "dead", "show", dead[0]["key"]).exit_code
    broken.clear()
    replayed = flask(app, queue_command, "dead", "replay", "--all")
    assert f"2 back on {QUEUE}.\n" == replayed.output
    assert 0 == flask(app, consume, "--burst").exit_code
    assert [3, 4, 7, 8] == sorted(got)
    found = status(app)
    assert (0, 0, 0) == (found["waiting"], found["dead"], found["missing"])


def test_the_queue_user_may_do_nothing_else(server: ImageServer) -> None:
    """No administration, no other service's keys, and neither from inside a script."""
    server.start()
    refused = [
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("CONFIG", "GET", "*"),
        ("SCRIPT", "FLUSH"),
        ("SCRIPT", "KILL"),
        ("MONITOR",),
        ("ACL", "LIST"),
        ("ACL", "SETUSER", "queue", "+@all"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("SHUTDOWN",),
        ("REPLICAOF", "NO", "ONE"),
        ("SUBSCRIBE", "channel"),
        ("DEL", QUEUE),
        ("LPUSH", "other_queue", "x"),
        ("HGETALL", "{other_queue}:dead"),
        ("LPUSH", f"{QUEUE}2", "x"),
        ("EVAL", "return redis.call('LPUSH', KEYS[1], 'x')", "1", "other_queue"),
    ]
    inside = [
        "redis.call('FLUSHALL')",
        "redis.call('KEYS', '*')",
        "redis.call('LPUSH', 'other', 'x')",
    ]
    with server.client() as client:
        client.lpush(QUEUE, "x")
        allowed = [one for one in refused if not _is_refused(client, one)]
        for script in inside:
            with pytest.raises(ResponseError, match=r"(?i)permission|can't run|can't access"):
                client.execute_command("EVAL", f"return {script}", "0")
        assert [] == allowed
        assert 1 == client.llen(QUEUE)


def _is_refused(client: redis.Redis, command: tuple[str, ...]) -> bool:
    try:
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    except NoPermissionError:
        return True
    except ResponseError as error:
        print(command, error)
    return False


def test_the_queue_user_has_exactly_the_commands_of_the_package() -> None:
    """What the scripts and their callers run is what the entry point grants, and no more."""
    package = ROOT / "flask_redis_queue"
    needed = {"client|setname"}  # sent by redis-py, for the names of connections
    for path in package.rglob("*.lua"):
        needed |= {one.lower() for one in re.findall(r"redis\.p?call\('(\w+)'", path.read_text())}
    for_tests = {package / "timetravel.py", *(package / "testing").iterdir()}
    for path in set(package.rglob("*.py")) - for_tests:
        text = path.read_text()
        needed |= {one.lower() for one in re.findall(r'\.(?:call|send)\(\s*"([A-Z]+)"', text)}
        needed |= {one.lower() for one in re.findall(r'return \("(EVALSHA)"', text)}
    commands = re.search(r'^COMMANDS="(.*?)"', ENTRYPOINT.read_text(), re.DOTALL | re.MULTILINE)
    assert commands is not None
    # The start of `flask consume` asks for one setting, and does without where it may not.
    assert needed - {"config"} == {one.removeprefix("+") for one in commands[1].split()}


def test_several_queues(server: ImageServer) -> None:
    """REDIS_QUEUES names what the user may use, and REDIS_USERNAME is its name."""
    server.environ |= {"REDIS_QUEUES": "orders  stock.back", "REDIS_USERNAME": "shop"}
    server.start()
    with server.client(username="shop") as client:
        assert 1 == client.lpush("orders", "x")
        assert 1 == client.hset("{stock.back}:dead", "key", "x")
        for key in (QUEUE, "stockXback", "*"):
            with pytest.raises(NoPermissionError):
                client.lpush(key, "x")


def test_an_own_file_of_users(server: ImageServer) -> None:
    """REDIS_ACL is the whole file, and then no password is asked for."""
    text = "user default off resetpass ~* &* +@all\nuser admin on >secret ~* &* +@all"
    server.environ = {"REDIS_ACL": text}
    server.start()
    assert f"{text}\n" == server.users.read_text()
    with server.client(username="admin", password="secret") as admin:
        assert "everysec" == admin.config_get("appendfsync")["appendfsync"]
        assert ["admin", "default"] == sorted(admin.acl_users())
