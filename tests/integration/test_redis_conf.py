"""The image's server without the image: its entry point, settings and users, on real programs."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import Result
from flask import Flask
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry as Again

from flask_redis_queue import (
    QueueRefused,
    QueueUnavailable,
    RedisQueue,
    Reject,
    Retry,
    current_message,
)
from flask_redis_queue.cli import consume
from flask_redis_queue.cli import queue as queue_command
from flask_redis_queue.server import WATCH

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from ..servers import Port, server_binaries

ROOT = Path(__file__).resolve().parents[2]
ENTRYPOINT = ROOT / ".docker" / "redis-entrypoint.sh"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ONLY = os.environ.get("REDIS_SERVER_BINARY")  # `make matrix` names one server at a time
REQUIRED = ("redis on PATH", "valkey 9")
NAMES = ("REDIS_SERVER_BINARY",) if ONLY else (*REQUIRED, "redis 6.2", "redis 8")


class ImageServer:
    """A server that is started as the image would start it, with its data in a folder of the test.

    :param program: The server program.
    :param folder: Its data, and its file of users.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self.folder = folder
        self.users = folder / "users.acl"
        self._held = Port("")
        self.port = self._held.number
        self.password = secrets.token_urlsafe(24)
        self.environ = {"REDIS_PASSWORD": self.password}
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program

    def command(self, *more: str) -> list[str]:
        """:return: The entry point, and what the image's CMD and the test pass to it."""
        lines = [line for line in DOCKERFILE.splitlines() if line.startswith("CMD ")]
        arguments = json.loads(lines[-1].removeprefix("CMD "))[1:]
        place = ["--port", str(self.port), "--dir", str(self.folder)]
        return [str(ENTRYPOINT), self._program, *arguments, *place, *more]

    def environment(self) -> dict[str, str]:
        """:return: All that the entry point sees."""
        return {
            "PATH": os.environ["PATH"],
            "REDIS_CONF": str(ROOT / "redis.conf"),
            "REDIS_ACL_FILE": str(self.users),
            **self.environ,
        }

    def start(self, *more: str) -> None:
        """Start it and wait until it has loaded its data."""
        with (self.folder / "log").open("ab") as log:
            # It ends with this process, also when a test run is killed.
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, *self.command(*more)],
                env=self.environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, "the server answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return "REDIS_ACL" in self.environ  # then the test logs in by itself
        except redis.RedisError:
            return False  # not up, or still loading its data

    def kill(self) -> None:
        """Kill it: no goodbye."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process = None

    def client(self, **options: Any) -> redis.Redis:
        """:return: A client that logs in as the queue user, if nothing else is said."""
        # By itself redis-py repeats even a refused login, for seconds.
        once = {"protocol": 2, "socket_timeout": 5, "retry": Again(NoBackoff(), 0)}
        user = self.environ.get("REDIS_USERNAME", "queue")
        login = {"username": user, "password": self.password}
        return redis.Redis(**{"port": self.port, **once, **login, **options})

    def app(self, **config: Any) -> tuple[Flask, RedisQueue]:
        """:return: An app that logs in as the queue user, and its queue."""
        login = {"REDIS_USERNAME": "queue", "REDIS_PASSWORD": self.password}
        return make_app(f"redis://127.0.0.1:{self.port}/0", **{**login, **config})


@pytest.fixture(params=NAMES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ImageServer]:
    """A server that is not started yet, on each program that is here."""
    program = ONLY or server_binaries().get(request.param)
    if program is None:
        _missing(f"no server here: {request.param}", fails=request.param in REQUIRED)
    if shutil.which("sha256sum") is None:
        _missing("no sha256sum here, which the image has")
    folder = tmp_path / "data"
    folder.mkdir()
    server = ImageServer(str(program), folder)
    yield server
    server.kill()


def _missing(reason: str, *, fails: bool = True) -> None:
    if fails and os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def flask(app: Flask, command: Any, *arguments: str) -> Result:
    """:return: What a command of ``flask`` said."""
    result: Result = app.test_cli_runner().invoke(command, arguments)
    return result


def status(app: Flask) -> dict[str, Any]:
    """:return: What ``flask queue status`` says of the queue."""
    result = flask(app, queue_command, "status", "--json")
    assert 0 == result.exit_code, result.output
    (found,) = json.loads(result.output)
    assert isinstance(found, dict)
    return found


def test_it_has_the_settings_of_a_queue(server: ImageServer) -> None:
    """The file is read as it stands: nothing is evicted, all is appended; it leaves in peace."""
    server.start()
    with server.client() as client:
        memory, persistence = client.info("memory"), client.info("persistence")
    assert ("noeviction", 512 * 1024**2) == (memory["maxmemory_policy"], memory["maxmemory"])
    assert 1 == persistence["aof_enabled"]
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    assert 0 == server.process.wait(20)


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


def test_a_killed_server_has_lost_nothing(server: ImageServer) -> None:
    """Each message whose send returned is there after kill -9 and a start on the same data."""
    server.start()
    app, queue = server.app()
    got: list[int] = []
    queue.handler(StockSupplied)(lambda supplied: got.append(supplied["quantity"]))
    with app.app_context():
        sent = [queue.send(StockSupplied, {**GOODS, "quantity": n}).id for n in range(300)]
    # With `everysec` a server puts off what it has answered while the disk still syncs.
    with server.client() as client:
        eventually(lambda: not client.info("persistence")["aof_buffer_length"], "it is written")
    server.kill()
    server.start()
    found = status(app)
    assert (300, 300, 0) == (len(set(sent)), found["waiting"], found["missing"])
    assert 0 == flask(app, consume, "--burst", "--quiet").exit_code
    assert list(range(300)) == got
    assert "CRITICAL" not in (server.folder / "log").read_text()


def test_a_full_server_refuses_and_evicts_nothing(server: ImageServer) -> None:
    """At maxmemory a send raises and says why, what was accepted stays, and can be consumed."""
    server.start("--maxmemory", "8mb")
    app, queue = server.app()
    got: list[int] = []
    queue.handler(StockSupplied)(lambda supplied: got.append(supplied["quantity"]))
    accepted, large = 0, {**GOODS, "product_code": "x" * 50_000}
    with app.app_context(), pytest.raises(QueueUnavailable, match=r"is full: .*Nothing was stored"):
        while accepted < 1000:
            queue.send(StockSupplied, {**large, "quantity": accepted})
            accepted += 1
    with server.client() as client:
        assert 10 < accepted == client.llen(QUEUE)
        assert 0 == client.info("stats")["evicted_keys"]
    assert 0 == flask(app, consume, "--burst", "--quiet").exit_code
    assert list(range(accepted)) == got
    assert 0 == status(app)["missing"]


PASSWORD, USERNAME, QUEUES = "REDIS_PASSWORD", "REDIS_USERNAME", "REDIS_QUEUES"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "REDIS_PASSWORD is not set: give the queue server a password."),
        ({PASSWORD: ""}, "REDIS_PASSWORD is not set: give the queue server a password."),
        *(
            (
                {PASSWORD: f"half{space}half"},
                "REDIS_PASSWORD contains white space or a line break: use another one.",
            )
            for space in (" ", "\t", "\n")
        ),
        (
            {PASSWORD: "x", USERNAME: "default"},
            'REDIS_USERNAME is "default", the user that is switched off: use another name.',
        ),
        (
            {PASSWORD: "x", USERNAME: "a on ~*"},
            'REDIS_USERNAME may have letters, digits, ".", "_" and "-" only.',
        ),
        (
            {PASSWORD: "x", QUEUES: "orders *"},
            "REDIS_QUEUES may have names of queues with spaces between them only.",
        ),
        (
            {PASSWORD: "x", QUEUES: "orders\n+@all"},
            "REDIS_QUEUES may have names of queues with spaces between them only.",
        ),
    ],
)
def test_a_wrong_environment_starts_nothing(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    """One sentence and exit code 1, no file of users, and the server program never runs."""
    server = ImageServer(shutil.which("false") or "false", tmp_path)
    server.environ = environ
    done = subprocess.run(
        server.command(), env=server.environment(), capture_output=True, text=True, timeout=20
    )
    assert (1, f"{said}\n", "") == (done.returncode, done.stderr, done.stdout)
    assert not server.users.exists()


def test_the_health_check_logs_in(server: ImageServer) -> None:
    """The image's own line says healthy with the password, unhealthy with another or no server."""
    client = shutil.which("redis-cli")
    if client is None:
        _missing("no redis-cli here")
    assert client is not None
    server.start()
    tools = server.folder / "tools"
    tools.mkdir()
    stand_in = tools / "valkey-cli"
    stand_in.write_text(f'#!/bin/sh\nexec {shlex.quote(client)} -p {server.port} "$@"\n')
    stand_in.chmod(0o755)
    found = re.search(r"^HEALTHCHECK .*\\\n +CMD (.*)$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    line = json.loads(found[1])

    def check(password: str) -> int:
        environ = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "REDIS_PASSWORD": password}
        return subprocess.run(line, env=environ, capture_output=True).returncode

    assert [0, 1] == [check(server.password), check("wrong")]
    server.kill()
    assert 1 == check(server.password)
