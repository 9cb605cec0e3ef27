"""``--reload``: run the command as a child, and anew whenever Python code changes.

The old child gets SIGTERM and finishes its message, as in production; werkzeug's reloader would cut
it off.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
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
    """Find out whether this process is such a child; it ends when its parent does.

    :return: Whether it is.
    """
    given = os.environ.pop(_CHILD, None)
    if given is None:
        return False
    alive = int(given)
    os.set_inheritable(alive, False)

    def watch() -> None:
        os.read(alive, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="reloader-watch", daemon=True).start()
    return True


def is_installed() -> bool:
    """:return: Whether the package that watches files is here."""
    return watchfiles is not None


def run(folder: Path) -> int:
    """Run this very command as a child until it ends for its own reasons, or a signal comes.

    :param folder: What to watch.
    :return: The child's exit code.
    """
    alive, ours = os.pipe()  # a child that reads its end has nobody to stop it any more
    try:
        return _run(folder, alive)
    finally:
        os.close(ours)
        os.close(alive)


def _run(folder: Path, alive: int) -> int:
    child: subprocess.Popen[bytes] | None = None
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        watched = watchfiles.watch(
            folder,
            watch_filter=watchfiles.PythonFilter(),
            rust_timeout=100,
            yield_on_timeout=True,
            raise_interrupt=True,
        )
        waiting = False
        for changes in watched:
            if child is None:  # only now, for nobody sees what changes before the first look
                child = _start(alive)
                continue
            code = child.poll()
            if changes:
                names = sorted({os.path.relpath(path, folder) for _, path in changes})
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                click.echo(marked("■", "blue", f"{names[0]}{more} changed; starting anew"))
                _stop(child)
                child, waiting = _start(alive), False
            elif code is not None and code not in _MENDABLE:
                return code
            elif code is not None and not waiting:
                click.echo(marked("■", "blue", "waiting for a change of the code"))
                waiting = True
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)
    return _stop(child) if child is not None else 0


def _start(alive: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, *sys.orig_argv[1:]]
    environ = {**os.environ, _CHILD: str(alive)}
    return subprocess.Popen(command, env=environ, pass_fds=[alive])


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
