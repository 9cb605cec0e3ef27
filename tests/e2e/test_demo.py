"""``make demo`` as a person runs it, and what it leaves behind."""

from __future__ import annotations

import os
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
    output, _ = demo.communicate(timeout=60)
    assert 0 == demo.returncode, output
    assert "✓ 40 deliveries" in output
    assert [] == _left(tmp_path)
    assert [] == _files(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM while it works end every process."""
    demo = _start(tmp_path, messages=100_000)
    eventually(lambda: (tmp_path / "output").read_text().count("✓") >= 4, "it works", 30)
    assert 5 <= len(_carriers(tmp_path))  # the demo, the server, two services, the consumer
    demo.send_signal(number)
    demo.wait(30)
    assert 0 != demo.returncode
    assert [] == _left(tmp_path)
    assert [] == _files(tmp_path)


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.35, 0.5, 0.8])
def test_a_stop_at_the_start_leaves_nothing(tmp_path: Path, delay: float) -> None:
    """Ctrl-C while the processes start ends those that did."""
    demo = _start(tmp_path, messages=100_000)
    time.sleep(delay)  # an arbitrary moment is the point here
    demo.send_signal(signal.SIGINT)
    demo.wait(30)
    assert [] == _left(tmp_path)


def _start(folder: Path, messages: int) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir()
    with (folder / "output").open("w") as out:
        whole = messages < 1000
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "example_app.demo", "--messages", str(messages)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if whole else out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def _left(folder: Path, patience: float = 5.0) -> list[str]:
    """:return: Processes that carry the folder's name, once none ends any more."""
    deadline = time.monotonic() + patience
    found = _carriers(folder)
    while found and time.monotonic() < deadline and not _stable(folder, found):
        found = _carriers(folder)
    return found


def _stable(folder: Path, before: list[str]) -> bool:
    time.sleep(0.5)
    return before == _carriers(folder)


def _carriers(folder: Path) -> list[str]:
    # Their environment has it as TMPDIR; the server, which may overwrite that, works in it.
    needle = os.fsencode(folder)
    found = []
    for process in PROC.glob("[0-9]*"):
        try:
            where = os.fsencode(os.readlink(process / "cwd"))
            text = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:  # it ended while we looked, or belongs to somebody else
            continue
        if needle in where + text:
            found.append(f"{process.name} {(process / 'cmdline').read_bytes()!r}")
    return sorted(found)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "tmp").glob("redis-queue-demo-*"))
