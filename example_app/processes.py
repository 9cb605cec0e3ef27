"""Child processes that never outlive the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

from flask_redis_queue.server import WATCH


class Died(Exception):
    """A process ended that should not have."""


class Processes:
    """The processes of one demo; leaving the ``with`` block ends all of them.

    :param folder: Where each writes its log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def flask(self, name: str, arguments: list[str], environ: dict[str, str]) -> None:
        """Start ``flask …`` in its own process group.

        :param name: What to call it.
        :param arguments: Behind ``flask``.
        :param environ: What its environment has besides ours.
        """
        with self.log(name).open("wb") as out:
            self._running[name] = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, sys.executable, "-m", "flask", *arguments],
                env={**_own_environment(), **environ},
                stdin=subprocess.PIPE,  # it ends with us, however we end
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """:return: Where a process writes."""
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Look whether all are alive.

        :raises Died: If one is not; its log's end is in the text.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                tail = "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])
                raise Died(f"{name} ended with exit code {process.returncode}:\n{tail}")

    def wait_for_http(self, port: int, timeout: float = 20) -> None:
        """Wait until a service answers.

        :raises Died: If it ends, or does not answer in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            self.check()
            try:
                connection = HTTPConnection("127.0.0.1", port, timeout=2)
                with contextlib.closing(connection):
                    connection.request("GET", "/")
                    connection.getresponse().read()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise Died(f"Nothing answers on port {port} after {timeout:g}s.") from None
                time.sleep(0.02)

    def wait_for_line(self, name: str, text: str, timeout: float = 20) -> None:
        """Wait until a process has printed something.

        :raises Died: If it ends, or does not print it in time.
        """
        deadline = time.monotonic() + timeout
        while text not in self.log(name).read_text(errors="replace"):
            self.check()
            if time.monotonic() > deadline:
                raise Died(f"{name} has not said {text!r} after {timeout:g}s.")
            time.sleep(0.02)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._running.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in self._running.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5 if number == signal.SIGTERM else None)
        for process in self._running.values():
            if process.stdin is not None:
                process.stdin.close()


def _own_environment() -> dict[str, str]:
    # Settings that are meant for somebody's real service must not reach the demo's.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    return {**environ, "FLASK_SKIP_DOTENV": "1"}
