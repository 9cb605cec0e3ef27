"""The image's server without the image."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import Result
from flask import Flask
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry as Again

from flask_redis_queue import (
    RedisQueue,
)
from flask_redis_queue.cli import queue as queue_command
from flask_redis_queue.server import WATCH

from ..apps import make_app
from ..conftest import eventually
from ..servers import Port

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


def missing(reason: str, *, fails: bool = True) -> None:
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
