"""``--reload``: run the command as a child, and anew whenever Python code changes.

The old child gets SIGTERM and finishes its message, as in production; werkzeug's reloader would cut
it off.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import click

from .lines import marked

try:
    import watchfiles
except ModuleNotFoundError:
    watchfiles = None  # type: ignore[assignment]

_CHILD = "FLASK_REDIS_QUEUE_RELOADS"
_MENDABLE = (1, 2, 3)
"""Exit codes that a change of the code may cure: crash, broken import, misconfigured."""


def is_child() -> bool:
    """:return: Whether a parent watches this process already."""
    return os.environ.get(_CHILD) == "1"


def is_installed() -> bool:
    """:return: Whether the package that watches files is here."""
    return watchfiles is not None


def run(folder: Path) -> int:
    """Run this very command as a child until it ends for its own reasons, or a signal comes.

    :param folder: What to watch.
    :return: The child's exit code.
    """
    child = _start()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        watched = watchfiles.watch(
            folder,
            watch_filter=watchfiles.PythonFilter(),
            rust_timeout=200,
            yield_on_timeout=True,
            raise_interrupt=True,
        )
        waiting = False
        for changes in watched:
            code = child.poll()
            if changes:
                names = sorted({os.path.relpath(path, folder) for _, path in changes})
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                click.echo(marked("■", "blue", f"{names[0]}{more} changed; starting anew"))
                _stop(child)
                child, waiting = _start(), False
            elif code is not None and code not in _MENDABLE:
                return code
            elif code is not None and not waiting:
                click.echo(marked("■", "blue", "waiting for a change of the code"))
                waiting = True
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)
    return _stop(child)


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, *sys.orig_argv[1:]]
    return subprocess.Popen(command, env={**os.environ, _CHILD: "1"})


def _stop(child: subprocess.Popen[bytes]) -> int:
    if child.poll() is None:
        child.terminate()
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # the terminal has told the child, too: its second one hands back


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
