"""What the kernel knows of processes that are not the test's own children."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def _stat(pid: int) -> tuple[str, int]:
    """:return: Its state, and its parent; ``("", 0)``: there is none."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return state, int(parent)


def state(pid: int) -> str:
    """:return: Its letter, such as ``T``: it stands still; empty: there is no such process."""
    return _stat(pid)[0]


def is_there(pid: int) -> bool:
    """:return: Whether it runs, or stands still; what only waits for its parent has ended."""
    return state(pid) not in ("", "Z", "X")


def children(pid: int) -> list[int]:
    """:return: Its children."""
    every = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [one for one in every if _stat(one)[1] == pid]


def send(pid: int, number: int) -> None:
    """Send a signal, if it is there still."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
