"""Several worker processes: started, watched, started again, recycled.

Each worker runs the same command as a process of its own, so that one that crashes takes nobody
along. What it held when it ended is read from the board: what was done is settled, what was running
is blamed for the end, and the rest goes on at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from . import burial
from .board import Board, Phase
from .broker import Broker
from .burial import ending
from .memory import memory_of
from .plan import Plan

_logger = logging.getLogger("flask_redis_queue")

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0
_LONG = 10.0
"""Seconds that a worker has to live to be started again at once, if it has handled nothing."""
_GRACE = 5.0
"""Seconds beyond the stop timeout before a worker is killed."""
_POLL = 0.1
"""Seconds between looks at the memory of the workers."""
_IDLE = 1.0
"""The same, where nothing but its end is to be seen of a worker."""
_DEAD_LETTERS = 6
"""Exit code where nothing is started again and messages have died with their workers."""
HOPELESS = (2, 3, 5)
"""Exit codes that every worker would end with: broken import, misconfigured, refused by Redis."""


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[bytes] | None = None
    wait: float = _FIRST_WAIT
    start_at: float | None = 0.0
    started: float = 0.0
    left: float | None = None
    was_ready: bool = False
    code: int = 0


class Supervisor:
    """Runs the workers of one command.

    :param plan: How.
    :param board: Where they write down what they do.
    :param broker: Their queues.
    :param on_ready: Called once, when all of them consume.
    """

    def __init__(
        self, plan: Plan, board: Board, broker: Broker, on_ready: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._board = board
        self._broker = broker
        self._on_ready: Callable[[], None] | None = on_ready
        self._workers = [_Worker(number) for number in range(plan.processes)]
        self._voices = [board.voice(number) for number in range(plan.processes)]
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._alive, self._alive_end = os.pipe()
        self._stop_by: float | None = None
        self._code: int | None = None
        self._interrupts = self._died = 0

    def run(self) -> int:
        """Run until all workers have ended, or a signal asks for it.

        :return: The exit code: the highest of the workers' last ones.
        """
        previous = {n: signal.signal(n, self._on_signal) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._is_over():
                self._start_due()
                self._look()
                with contextlib.suppress(queue.Empty):
                    self._handle(*self._events.get(timeout=self._patience()))
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(self._alive_end)
            os.close(self._alive)
        if self._code is not None:
            return self._code
        code = max(worker.code for worker in self._workers)
        return _DEAD_LETTERS if self._plan.once and self._died and code == 0 else code

    def _is_over(self) -> bool:
        return all(w.process is None and w.start_at is None for w in self._workers)

    def _patience(self) -> float:
        now = time.monotonic()
        moments = [w.start_at for w in self._workers if w.start_at is not None]
        if self._stop_by is not None:
            moments.append(self._stop_by)
        if self._plan.max_memory or self._on_ready is not None:
            moments.append(now + _POLL)
        return max(0.0, min(moments, default=now + _IDLE) - now)

    # Starting ----------------------------------------------------------------------------------

    def _start_due(self) -> None:
        for worker in self._workers:
            if worker.start_at is not None and time.monotonic() >= worker.start_at:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        worker.start_at, worker.started, worker.left = None, time.monotonic(), None
        self._board.set_phase(worker.number, Phase.STARTS)
        try:
            worker.process = subprocess.Popen(
                self._plan.command,
                env=self._plan.environment(worker.number, self._alive),
                pass_fds=[self._alive, self._board.descriptor],
            )
        except OSError as error:
            self._could_not_start(worker, error)
            return
        waiter = threading.Thread(target=self._wait_for, args=(worker, worker.process), daemon=True)
        try:
            waiter.start()
        except RuntimeError as error:  # nobody would hear of its end
            worker.process.kill()
            worker.process.wait()
            worker.process = None
            burial.bury(self._broker, self._board, worker.number)
            self._could_not_start(worker, error)

    def _could_not_start(self, worker: _Worker, error: Exception) -> None:
        delay = self._start_again(worker, at_once=False)
        _logger.warning(
            "worker %d could not be started: %s; tried again in %gs",
            worker.number + 1,
            error,
            delay,
        )

    def _wait_for(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._events.put(("ended", worker))

    # What happens ------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._events.put(("signal", number))

    def _handle(self, what: str, about: Any) -> None:
        if what == "signal":
            self._stop(about)
        else:
            self._ended(about)

    def _stop(self, number: int) -> None:
        self._interrupts += number == signal.SIGINT
        again = self._interrupts > 1 and self._stop_by is not None
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._plan.stop_timeout + _GRACE
        for worker in self._workers:
            worker.start_at = None
            self._tell(worker, signal.SIGINT if again else signal.SIGTERM)

    def _tell(self, worker: _Worker, number: int) -> None:
        if worker.process is not None and worker.process.returncode is None:
            worker.process.send_signal(number)

    def _look(self) -> None:
        """Look at what no event tells: the clock, readiness, memory."""
        if self._stop_by is not None and time.monotonic() >= self._stop_by:
            self._stop_by = time.monotonic() + 60
            for worker in self._workers:
                self._tell(worker, signal.SIGKILL)
        for worker in self._workers:
            is_ready = self._board.phase(worker.number) is not Phase.STARTS
            worker.was_ready = worker.was_ready or is_ready
        if self._on_ready is not None and all(worker.was_ready for worker in self._workers):
            self._on_ready()
            self._on_ready = None
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                self._look_at_memory(worker, worker.process.pid)
                self._look_at_end(worker)

    def _look_at_memory(self, worker: _Worker, pid: int) -> None:
        used = memory_of(pid) if self._plan.max_memory else 0
        if used > self._plan.max_memory * 3 // 2:
            _logger.warning(
                "worker %d uses %d MiB, more than one and a half times --max-memory %d MiB: killed",
                worker.number + 1,
                used // 2**20,
                self._plan.max_memory // 2**20,
            )
            self._tell(worker, signal.SIGKILL)

    def _look_at_end(self, worker: _Worker) -> None:
        """Kill one that has left its queues and goes on: nobody would take its place."""
        if self._stop_by is not None or self._board.phase(worker.number) is not Phase.HAS_LEFT:
            return
        if worker.left is None:
            worker.left = time.monotonic()
        elif time.monotonic() - worker.left > _GRACE:
            worker.left = float("inf")  # said once
            _logger.warning("worker %d has left and does not end: killed", worker.number + 1)
            self._tell(worker, signal.SIGKILL)

    def _ended(self, worker: _Worker) -> None:
        assert worker.process is not None
        code, worker.process = worker.process.returncode, None
        phase = self._board.phase(worker.number)
        has_worked = (
            burial.has_worked(self._board, worker.number)
            or time.monotonic() - worker.started >= _LONG
        )
        self._look()
        if code == -signal.SIGTERM and (self._stop_by is not None or phase is Phase.HAS_LEFT):
            code = 0  # told before it could listen, or when it had listened already
        # Redis would refuse a burial too; who could not leave has said what becomes of it.
        remains = (
            None if self._is_refused else burial.bury(self._broker, self._board, worker.number)
        )
        self._died += remains.dead if remains else 0
        is_hopeless = code in HOPELESS and (phase is Phase.STARTS or self._is_refused)
        if is_hopeless and self._code is None:
            self._give_up(worker, code)
        is_done = phase is not Phase.CONSUMES and code >= 0 and code != 1
        if self._stop_by is not None or (self._plan.once and is_done):
            # The exit code of one that did not leave is not its own, but that of a handler.
            worker.code = code if is_done or code == 0 else 1
            self._voices[worker.number].forget()
            self._tell_end(worker, phase, code, remains, None)
            return
        delay = self._start_again(worker, at_once=has_worked)
        self._tell_end(worker, phase, code, remains, delay)

    def _give_up(self, worker: _Worker, code: int) -> None:
        """End the command for what no start can mend."""
        self._code = code
        if not self._is_refused:
            _logger.warning(
                "worker %d %s before it consumed, as each would: the command ends",
                worker.number + 1,
                ending(code),
            )
        self._stop(signal.SIGTERM)

    def _start_again(self, worker: _Worker, *, at_once: bool) -> float:
        """Plan the next start: who has worked is needed, who has not may not get there again.

        :return: Seconds until then.
        """
        delay = 0.0 if at_once else worker.wait
        worker.wait = _FIRST_WAIT if at_once else min(worker.wait * 2, _LONGEST_WAIT)
        worker.start_at = time.monotonic() + delay
        return delay

    def _tell_end(
        self,
        worker: _Worker,
        phase: Phase,
        code: int,
        remains: burial.Remains | None,
        delay: float | None,
    ) -> None:
        """Say how a worker ended, if it could not say it itself."""
        if remains is None or phase is Phase.HAS_LEFT or self._code is not None:
            return
        if phase is Phase.STARTS and (self._stop_by is not None or code == 0):
            return
        what = f"while {remains}" if phase is Phase.CONSUMES else "before it consumed"
        again = f"; started again in {delay:g}s" if delay else ""
        _logger.warning("worker %d %s %s%s", worker.number + 1, ending(code), what, again)

    @property
    def _is_refused(self) -> bool:
        """:return: Whether a worker has said that Redis refuses what it does: all meet the same."""
        return self._voices[0].was_said("refused")
