"""``flask consume -p N`` whose workers are forked, and not started anew from the command line.

A new Python that imports Flask takes 0.7 s, and chaos kills two workers a second. Supervisor, board
and worker are the package's own; only the one call that starts a process is another.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import NoReturn

from flask_redis_queue import supervisor
from flask_redis_queue.cli import workers as cli


def supervise_by_fork(work: Callable[[], NoReturn]) -> None:
    """Have the supervisor of this process fork its workers.

    :param work: What each does; it finds its place in the environment.
    """
    alive_ends: list[int] = []

    class Supervisor(supervisor.Supervisor):
        def run(self) -> int:
            alive_ends.append(self._alive_end)
            return super().run()

    class Forked:
        """What a supervisor needs of ``subprocess.Popen``."""

        def __init__(
            self, command: Sequence[str], env: dict[str, str], pass_fds: Sequence[int]
        ) -> None:
            self.returncode: int | None = None
            self.pid = os.fork()
            if not self.pid:
                _forget_parent(env, alive_ends)
                work()

        def wait(self) -> int:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

        def send_signal(self, number: int) -> None:
            os.kill(self.pid, number)

    # This process is the command's own, so that neither need be put back.
    cli.Supervisor = Supervisor  # type: ignore[misc, attr-defined]
    supervisor.subprocess = SimpleNamespace(Popen=Forked)  # type: ignore[assignment, attr-defined]


def _forget_parent(env: dict[str, str], alive_ends: list[int]) -> None:
    """Be as a new program would be: it has none of its parent's signal handlers and pipe ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in alive_ends:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
