"""``make demo`` as a person runs it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import eventually

ROOT = Path(__file__).resolve().parents[2]
PROC = Path("/proc")

pytestmark = pytest.mark.skipif(not PROC.is_dir(), reason="needs /proc to look for processes")


def test_the_demo_adds_up_and_leaves_nothing(tmp_path: Path) -> None:
    """It ends with 0 and its figures, and takes its processes and files with it."""
    demo = _start(tmp_path, messages=40)
    output, _ = demo.communicate(timeout=100)
    assert 0 == demo.returncode, output
    assert "✓ 40 deliveries" in output
    assert [] == _services(tmp_path)
    _nothing_is_left(tmp_path)
    assert [] == _files(tmp_path)


@pytest.mark.parametrize("count", ["-5", "0", "many", "1.5", "1000001"])
def test_a_number_of_messages_that_makes_no_sense_is_refused(count: str) -> None:
    """It is said what may be typed, before anything is started."""
    command = [sys.executable, "-m", "example_app.demo", "--messages", count]
    demo = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert 2 == demo.returncode
    assert f"--messages: {count} is not a whole number from 1 to 1,000,000." in demo.stderr


@pytest.mark.parametrize(("no_color", "colourful"), [("1", False), ("", True)])
def test_no_color_is_honoured_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_color: str, colourful: bool
) -> None:
    """A NO_COLOR that is not empty keeps every escape sequence away, the live table's as well."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    reader, terminal = os.openpty()
    demo = _start(tmp_path, messages=40, stdout=terminal)
    os.close(terminal)
    output = _read_all(reader)
    assert 0 == demo.wait(60), output
    assert "✓ 40 deliveries" in re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", output)
    assert "posting 40 deliveries" in output
    assert colourful == ("\x1b" in output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and even kill -9 while it works end every process."""
    demo = _start(tmp_path, messages=100_000)
    eventually(lambda: _works(tmp_path), "it works", 60)
    assert 5 <= len(_carriers(tmp_path))  # the demo, the server, two services, the consumer
    demo.send_signal(number)
    demo.wait(60)
    assert 0 != demo.returncode
    if number != signal.SIGKILL:  # else its children notice it, and the consumer says goodbye
        assert [] == _services(tmp_path)
        assert [] == _files(tmp_path)
    _nothing_is_left(tmp_path)


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.35, 0.5, 0.8])
def test_a_stop_at_the_start_leaves_nothing(tmp_path: Path, delay: float) -> None:
    """Ctrl-C while the processes start ends those that did."""
    demo = _start(tmp_path, messages=100_000)
    time.sleep(delay)  # an arbitrary moment is the point here
    demo.send_signal(signal.SIGINT)
    demo.wait(60)
    _nothing_is_left(tmp_path)


def _read_all(terminal: int) -> str:
    """:return: What was written to a terminal, once nobody has it open any more."""
    parts = []
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as reading:
        while part := reading.read(65536):  # Linux says EIO at the end
            parts.append(part)
    return b"".join(parts).decode()


def _start(folder: Path, messages: int, stdout: int | None = None) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir()
    with (folder / "output").open("w") as out:
        if stdout is None:
            stdout = subprocess.PIPE if messages < 1000 else out.fileno()
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "example_app.demo", "--messages", str(messages)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def _nothing_is_left(folder: Path) -> None:
    """Fail unless every process has ended, at once or as soon as it hears of the end."""
    # The watchers of what was started end by themselves, whenever the machine lets them.
    eventually(lambda: not _carriers(folder), "all have ended")


def _works(folder: Path) -> bool:
    # A mark may be half written when it is read.
    return (folder / "output").read_text(errors="replace").count("✓") >= 4


def _carriers(folder: Path) -> list[str]:
    # Their environment has it as TMPDIR; the server, which may overwrite that, works in it.
    needle = os.fsencode(folder)
    found = []
    for process in PROC.glob("[0-9]*"):
        try:
            where = os.fsencode(os.readlink(process / "cwd"))
            environ, command = ((process / one).read_bytes() for one in ("environ", "cmdline"))
        except OSError:  # it ended while we looked, or belongs to somebody else
            continue
        if needle in where + environ + command:
            found.append(f"{process.name} {command!r}")
    return sorted(found)


def _services(folder: Path) -> list[str]:
    """:return: The carriers but for the shells that watch; the demo waits for each of these."""
    return [one for one in _carriers(folder) if not re.search(r"b'(/bin/sh|cat)\b", one)]


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "tmp").glob("redis-queue-demo-*"))
