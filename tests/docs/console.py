"""What is typed at a ``$``: run in the page's folder, or kept running until the page ends."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..servers import Port
from .blocks import ROOT, Command
from .matching import Names

_SHORT = {"-b", "--burst", "--check", "--help", "--max-messages", "--max-seconds"}
_SERVER = re.compile(r"queue server\b")
_PORTS = ("5000", "8000", "6379")


@dataclass
class Running:
    """A command that runs until the page ends."""

    command: Command
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """:return: What it has printed."""
        return self.log.read_text(errors="replace")


def words(command: str) -> list[str]:
    """:return: A command's words, without comment and leading variables."""
    found = shlex.split(command, comments=True)
    while found and re.match(r"\w+=", found[0]):
        found.pop(0)
    return found


def ready_line(command: str) -> str | None:
    """:return: What a long-running command says when it is ready; ``None``: it ends by itself."""
    found = words(command)
    if found[:1] == ["gunicorn"]:
        return "Listening at"
    if found[:1] != ["flask"] or "--help" in found:
        return None
    if "server" in found and "queue" in found:
        return "Redis for development at"
    if "run" in found:
        return "Running on"
    if "consume" in found and not _SHORT & set(found):
        return "ready in"
    return None


class Console:
    """Runs the commands of one page.

    :param folder: The page's folder.
    :param url: The server of the test.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.names = Names()
        self.last: str | None = None  # the output of the last command, for a text block below
        self.code = 0
        self.typed: list[str] = []
        self._running: list[Running] = []
        self._holds: list[Port] = []
        redis_port = url.rpartition(":")[2].partition("/")[0]
        self._ports = {"6379": redis_port, **{n: self._hold() for n in _PORTS[:2]}}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
        self.environ = {
            **kept,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": redis_port,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "FLASK_SKIP_DOTENV": "1",
            # A machine that is busy with other tests is not a Redis that is away.
            "REDIS_QUEUE_SEND_TIMEOUT": "10s",
            "FLASK_RUN_PORT": self._ports["5000"],
            "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{self._ports['8000']} --no-control-socket",
        }

    def here(self, text: str) -> str:
        """:return: A text of the page with the ports and ids of this run."""
        ported = re.sub(rf"\b({'|'.join(_PORTS)})\b", lambda found: self._ports[found[0]], text)
        return self.names.real(ported)

    def run(self, command: Command, *, code_is_asked: bool = False) -> None:
        """Run one command, and compare its output.

        :param command: What is typed.
        :param code_is_asked: Whether ``echo $?`` comes next, so that any exit code will do.
        """
        self.typed.append(command.text)
        if command.text == "echo $?":
            assert [str(self.code)] == command.shown, f"{command.block.place}: exit code"
        elif words(command.text)[:1] == ["export"]:
            name, _, value = self.here(words(command.text)[1]).partition("=")
            self.environ[name] = value
        elif not code_is_asked and (ready := ready_line(command.text)) is not None:
            self._start(command, ready)
        else:
            self._finish(command, code_is_asked)

    def _finish(self, command: Command, code_is_asked: bool) -> None:
        line = self.here(command.text)
        # What `make demo` does once the environment is made.
        cwd = ROOT if line == "make demo" else self.folder
        line = "python -m example_app.demo" if line == "make demo" else line
        done = subprocess.run(
            ["bash", "-c", line], cwd=cwd, env=self.environ, capture_output=True, timeout=100
        )
        self.last = (done.stdout + done.stderr).decode(errors="replace")
        self.code = done.returncode
        if not code_is_asked:
            assert 0 == self.code, f"{command.block.place}: $ {line}\n{self.last}"
        self.compare(command.block.place, command.shown, self.last)

    def compare(self, place: str, shown: Sequence[str], output: str) -> None:
        """Fail if a line that the page shows is not in the output."""
        missing = self.names.missing([self.here(line) for line in shown], output)
        assert missing is None, (
            f"{place} shows what is not printed like that:\n{missing}\n---\n{output}"
        )

    def compare_somewhere(self, place: str, shown: Sequence[str]) -> None:
        """Fail unless the last command, or one that still runs, prints what a text block shows."""
        lines = [self.here(line) for line in shown]
        outputs = [] if self.last is None else [self.last]
        deadline = time.monotonic() + 30
        while True:
            found = [*outputs, *(one.output() for one in self._running)]
            assert found, f"{place}: no command comes before this text"
            if any(self.names.missing(lines, one) is None for one in found):
                return
            if not self._running or time.monotonic() > deadline:
                self.compare(place, shown, "\n---\n".join(found))
            time.sleep(0.02)

    def _hold(self) -> str:
        self._holds.append(Port())
        return str(self._holds[-1].number)

    def _start(self, command: Command, ready: str) -> None:
        line = self.here(command.text)
        if _SERVER.search(line):
            port = self._hold()
            self._ports["6379"] = port
            self.environ["REDIS_PORT"] = port
            line = _SERVER.sub(f"queue server --port {port}", line)
        log = self.folder / f".output-{len(self._running)}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {line}"],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        started = Running(command, process, log)
        self._running.append(started)
        deadline = time.monotonic() + 60
        while ready not in started.output():
            assert process.poll() is None, f"{command.block.place}: $ {line}\n{started.output()}"
            assert time.monotonic() < deadline, f"{command.block.place}: not ready: {line}"
            time.sleep(0.01)

    def close(self, *, failed: bool = False) -> None:
        """Stop what still runs, the last one first, and compare what it has printed.

        :param failed: Only stop it.
        """
        try:
            for one in reversed(self._running):
                if not failed:
                    self._wait_for_shown(one)
                one.process.send_signal(signal.SIGINT)
                code = one.process.wait(30)
                if not failed:
                    assert code in (0, -signal.SIGINT, 130), f"{one.command.text}: {code}"
                    shown = [line for line in one.command.shown if line != "^C"]
                    self.compare(one.command.block.place, shown, one.output())
        finally:
            for one in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(one.process.pid, signal.SIGKILL)
                one.process.wait()

    def _wait_for_shown(self, one: Running) -> None:
        shown = [self.here(line) for line in one.command.shown]
        before = shown[: shown.index("^C")] if "^C" in shown else shown
        deadline = time.monotonic() + 30
        while self.names.missing(before, one.output()) is not None:
            if time.monotonic() > deadline or one.process.poll() is not None:
                return  # the comparison after the stop says what is missing
            time.sleep(0.02)
