"""How much memory a process uses."""

from __future__ import annotations

import os
import subprocess


def memory_of(pid: int) -> int:
    """Look at the resident memory of a process.

    :param pid: Which.
    :return: Bytes; 0: it has ended, or the system does not say.
    """
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0 if os.path.isdir("/proc/self") else _by_ps(pid)


def _by_ps(pid: int) -> int:
    try:
        asked = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True)
    except OSError:
        return 0
    return int(asked.stdout.strip() or 0) * 1024
