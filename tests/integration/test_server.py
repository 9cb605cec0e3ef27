"""The embedded server: who owns it, who shares it, and when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from flask_redis_queue.server import EmbeddedServer, find_binary

OWNER = """
    import sys
    from flask_redis_queue.server import EmbeddedServer
    server = EmbeddedServer(sys.argv[1])
    print(server.start(), server.pid, flush=True)
    sys.stdin.read()
    server.stop()
"""
FORKS = """
    import os, sys
    from flask_redis_queue.server import EmbeddedServer
    server = EmbeddedServer(sys.argv[1])
    print(server.start(), server.pid, flush=True)
    if os.fork() == 0:
        server.stop()
        print("child", os.getpid(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _program() -> None:
    try:
        find_binary()
    except FileNotFoundError as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))


@pytest.fixture
def owners() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that own a server; they are ended after the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_has_the_settings_of_a_queue(tmp_path: Path) -> None:
    """A server that a queue trusts evicts nothing and keeps an append-only file."""
    with EmbeddedServer(tmp_path) as url, Redis.from_url(url) as client:
        wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "save": "", "port": "0"}
        assert wanted == {name: client.config_get(name)[name] for name in wanted}
        assert "everysec" == client.config_get("appendfsync")["appendfsync"]


def test_keeps_what_it_held(tmp_path: Path) -> None:
    """What was pushed stands there after the next start, in a folder whose name has a space."""
    folder = tmp_path / 'a "folder" with spaces'
    for held in (0, 1):
        with EmbeddedServer(folder) as url, Redis.from_url(url) as client:
            assert held == client.llen("q")
            client.lpush("q", "message")


def test_more_settings_win(tmp_path: Path) -> None:
    """Settings that are passed stand above the server's own."""
    server = EmbeddedServer(tmp_path, persist=False, maxmemory="64mb")
    with server as url, Redis.from_url(url) as client:
        assert "67108864" == client.config_get("maxmemory")["maxmemory"]
        assert "no" == client.config_get("appendonly")["appendonly"]


def test_a_free_port(tmp_path: Path) -> None:
    """Port 0 becomes one that is free, on loopback, and the URL names it."""
    server = EmbeddedServer(tmp_path, port=0)
    with server as url, Redis.from_url(url) as client:
        assert f"redis://127.0.0.1:{server.port}/0" == url
        assert "127.0.0.1" == client.config_get("bind")["bind"]


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A port that somebody has is an error whose text says so, and leaves the folder free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match=rf"(?s)did not start.*{port}"):
            EmbeddedServer(tmp_path, port=port).start()
    with EmbeddedServer(tmp_path, port=port) as url, Redis.from_url(url) as client:
        assert client.ping()


def test_a_long_path(tmp_path: Path) -> None:
    """A folder whose path is too long for a socket gets one elsewhere."""
    folder = tmp_path / ("long" * 20) / ("longer" * 10)
    with EmbeddedServer(folder) as url, Redis.from_url(url) as client:
        assert client.ping()
        assert str(folder) not in url


def test_several_starters_share_one(tmp_path: Path, owners: list[subprocess.Popen[str]]) -> None:
    """Of several that start at once one owns the server, and all get its URL."""
    owners += [_run(OWNER, tmp_path) for _ in range(4)]
    said = [_line(process).split() for process in owners]
    assert 1 == len({url for url, _ in said})
    pids = [pid for _, pid in said if pid != "None"]
    with Redis.from_url(said[0][0]) as client:
        assert [str(client.info("server")["process_id"])] == pids


def test_ends_with_its_owner(tmp_path: Path, owners: list[subprocess.Popen[str]]) -> None:
    """The server is gone soon after its owner was killed, and the folder is free again."""
    owners.append(_run(OWNER, tmp_path))
    pid = int(_line(owners[0]).split()[1])
    owners[0].kill()
    _wait_for_end(pid)
    with EmbeddedServer(tmp_path) as url, Redis.from_url(url) as client:
        assert client.ping()


def test_a_forked_child_has_no_part_in_it(
    tmp_path: Path, owners: list[subprocess.Popen[str]]
) -> None:
    """A child's stop() changes nothing, and a child that lives on does not keep the server up."""
    owners.append(_run(FORKS, tmp_path))
    url, pid = _line(owners[0]).split()
    child = int(_line(owners[0]).split()[1])
    with Redis.from_url(url) as client:
        assert client.ping()
    os.kill(owners[0].pid, signal.SIGKILL)
    _wait_for_end(int(pid))
    os.kill(child, 0)  # raises if the child is gone, and nothing was shown
    with EmbeddedServer(tmp_path) as url, Redis.from_url(url) as client:
        assert client.ping()


def test_wait_returns_its_exit_code(tmp_path: Path) -> None:
    """Whoever waits for the server learns how it ended."""
    server = EmbeddedServer(tmp_path)
    server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert -signal.SIGKILL == server.wait()
    server.stop()


def test_a_program_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong REDIS_SERVER_BINARY is named in the error."""
    monkeypatch.setenv("REDIS_SERVER_BINARY", str(tmp_path / "no-such-server"))
    with pytest.raises(FileNotFoundError, match=r"REDIS_SERVER_BINARY names .*no-such-server"):
        find_binary()


def _run(program: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _wait_for_end(pid: int, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while _lives(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    # A process whose parent never collects it still has an entry, in the state Z.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")
