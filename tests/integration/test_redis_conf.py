"""The image's server without the image: its entry point, settings and users, on real programs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from flask_redis_queue import (
    QueueUnavailable,
)
from flask_redis_queue.cli import consume

from ..apps import GOODS, QUEUE, StockSupplied
from ..conftest import eventually
from .image import DOCKERFILE, ImageServer, flask, missing, status


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


@pytest.mark.usefixtures("no_waiting")
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
        missing("no redis-cli here")
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
