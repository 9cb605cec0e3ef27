"""What the tests on a real server share."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from flask_redis_queue import clients, guard, stopping

from .. import apps
from ..servers import server_binaries
from .image import NAMES, ONLY, REQUIRED, ImageServer, missing
from .reaching import make_certificate


class Clock:
    """What a handler's ``timeout=`` goes by."""

    def __init__(self) -> None:
        self.ahead, self.looks = 0.0, 0

    def monotonic(self) -> float:
        """:return: The time, and what was leapt over."""
        self.looks += 1
        return time.monotonic() + self.ahead

    def leap(self, seconds: float) -> None:
        """Let time pass at once; looks are counted from here."""
        self.ahead, self.looks = self.ahead + seconds, 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the guards and of who looks after them."""
    made = Clock()
    for module in (guard, stopping):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for seconds is not a Redis that is away either."""
    monkeypatch.setattr(apps, "send_timeout", "20s")


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between the tries of a request pass at once; each try has all its time."""
    waited = [0.0]
    ahead = SimpleNamespace(sleep=waited.append, monotonic=lambda: time.monotonic() + sum(waited))
    monkeypatch.setattr(clients, "time", ahead)


@pytest.fixture(params=NAMES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ImageServer]:
    """A server that is not started yet, on each program that is here."""
    program = ONLY or server_binaries().get(request.param)
    if program is None:
        missing(f"no server here: {request.param}", fails=request.param in REQUIRED)
    if shutil.which("sha256sum") is None:
        missing("no sha256sum here, which the image has")
    folder = tmp_path / "data"
    folder.mkdir()
    server = ImageServer(str(program), folder)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two CAs, a server's and a client's certificate."""
    if shutil.which("openssl") is None:
        missing("no openssl program here")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other-ca"):
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        make_certificate(folder, name, None, "basicConstraints=critical,CA:TRUE", usage)
    leaf = "basicConstraints=critical,CA:FALSE"
    make_certificate(folder, "server", "ca", leaf, "subjectAltName=IP:127.0.0.1")
    make_certificate(folder, "elsewhere", "ca", leaf, "subjectAltName=DNS:elsewhere.example")
    make_certificate(folder, "client", "ca", leaf)
    return folder
