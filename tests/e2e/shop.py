"""A folder with an app, in which commands are typed as a user types them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

ROOT = Path(__file__).resolve().parents[2]
APP = """
from flask import Flask
from flask_redis_queue import RedisQueue, RetryPolicy, message
from marshmallow import Schema, fields

@message("order.placed", queue="orders")
class OrderPlaced(Schema):
    number = fields.Integer(required=True, strict=True)

app = Flask("shop")
queue = RedisQueue(app)
LATER = RetryPolicy(2, min="1h", max="1h")  # not within the run that is looked at

@queue.handler(OrderPlaced, retry=LATER)
def place(order):
    if order["number"] == 13:
        raise KeyError("thirteen")
    print("placed", order["number"], flush=True)
"""


class Shop:
    """A folder with an app, in which commands are typed.

    :param folder: Where.
    :param url: The server.
    :param app: The text of the app.
    """

    def __init__(self, folder: Path, url: str, app: str = APP) -> None:
        self.folder = folder
        self.client = redis.Redis.from_url(url)
        self.write(app)
        # A machine that is busy with other tests is not a Redis that is away.
        calm = {"REDIS_URL": url, "REDIS_QUEUE_SEND_TIMEOUT": "10s"}
        self.environ = {**os.environ, **calm, "PYTHONPATH": str(ROOT)}

    def write(self, app: str) -> None:
        """Put another app in its place, in one step: who reads it never finds half of it."""
        new = self.folder / "shop.py.new"
        new.write_text(app)
        new.replace(self.folder / "shop.py")

    def command(self, *arguments: str) -> list[str]:
        """:return: A ``flask`` command."""
        return [sys.executable, "-m", "flask", "--app", "shop", *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
        """:return: Exit code, and all that was printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ,
            input=stdin or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    @contextlib.contextmanager
    def running(self, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command meanwhile; it ends with the block, and so does all that it has begun."""
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environ,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield process
        finally:  # else it would take what the next test pushes
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def json(self, *arguments: str) -> Any:
        """:return: What a command says with ``--json``."""
        code, output = self.run(*arguments, "--json")
        assert 0 == code, output
        return json.loads(output)

    def terminal(self, *arguments: str, **environ: str) -> str:
        """:return: What a command shows on a terminal."""
        parent, child = pty.openpty()
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env={**self.environ, "TERM": "xterm", "COLUMNS": "120", **environ},
            stdin=child,
            stdout=child,
            stderr=child,
        )
        os.close(child)
        parts = []
        try:
            while part := os.read(parent, 65536):
                parts.append(part)
        except OSError:  # Linux says EIO at the end
            pass
        os.close(parent)
        process.wait(60)
        return b"".join(parts).decode()

    def push(self, *numbers: int) -> None:
        """Push as an old producer does."""
        for number in numbers:
            self.client.lpush("orders", json.dumps({"number": number}))

    def kill(self, *bodies: str | bytes) -> str:
        """Make dead letters.

        :return: What the consumer says.
        """
        for body in bodies:
            self.client.lpush("orders", body)
        code, output = self.run("consume", "--burst")
        assert 6 == code, output
        return output


def event(id: str, number: int = 1, **more: Any) -> str:
    """:return: A message as another program writes it."""
    event = {"specversion": "1.0", "id": id, "source": "s", "type": "order.placed"}
    return json.dumps({**event, "data": {"number": number}, **more})
