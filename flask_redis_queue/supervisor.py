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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from redis.exceptions import RedisError

from . import clients, diagnosis
from .board import Board
from .broker import Broker
from .memory import memory_of

_logger = logging.getLogger("flask_redis_queue")

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 30.0
_GRACE = 5.0
"""Seconds beyond the stop timeout before a worker is killed."""
_POLL = 0.1
"""Seconds between looks at the memory of the workers."""
HOPELESS = (2, 3, 5)
"""Exit codes that every worker would end with: broken import, misconfigured, refused by Redis."""


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[bytes] | None = None
    wait: float = _FIRST_WAIT
    start_at: float | None = 0.0
    was_ready: bool = False
    code: int = 0


@dataclass(frozen=True)
class Plan:
    """How workers are run.

    :param processes: How many.
    :param command: What each runs.
    :param environment: Makes the environment of one, given its number and the descriptor that ends
        when the supervisor does.
    :param stop_timeout: Seconds that their handlers get.
    :param once: Whether a worker that ended by itself is not started again (``--burst``).
    :param max_memory: Bytes past which a worker is killed at one and a half times; 0: never.
    """

    processes: int
    command: Sequence[str]
    environment: Callable[[int, int], dict[str, str]]
    stop_timeout: float
    once: bool = False
    max_memory: int = 0


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
        self._interrupts = 0

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
        return max(worker.code for worker in self._workers)

    def _is_over(self) -> bool:
        return all(w.process is None and w.start_at is None for w in self._workers)

    def _patience(self) -> float:
        now = time.monotonic()
        moments = [w.start_at for w in self._workers if w.start_at is not None]
        if self._stop_by is not None:
            moments.append(self._stop_by)
        if self._plan.max_memory or self._on_ready is not None:
            moments.append(now + _POLL)
        return max(0.0, min(moments, default=now + 60) - now)

    # Starting ----------------------------------------------------------------------------------

    def _start_due(self) -> None:
        for worker in self._workers:
            if worker.start_at is not None and time.monotonic() >= worker.start_at:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        worker.start_at = None
        self._board.set_ready(worker.number, False)
        worker.process = subprocess.Popen(
            self._plan.command,
            env=self._plan.environment(worker.number, self._alive),
            pass_fds=[self._alive],
        )
        threading.Thread(target=self._wait_for, args=(worker, worker.process), daemon=True).start()

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
            worker.was_ready = worker.was_ready or self._board.is_ready(worker.number)
        if self._on_ready is not None and all(worker.was_ready for worker in self._workers):
            self._on_ready()
            self._on_ready = None
        for worker in self._workers:
            if worker.process is not None and self._plan.max_memory:
                used = memory_of(worker.process.pid)
                if used > self._plan.max_memory * 3 // 2:
                    _logger.warning(
                        "worker %d uses %d MiB and does not stop by itself: killed",
                        worker.number + 1,
                        used // 2**20,
                    )
                    self._tell(worker, signal.SIGKILL)

    def _ended(self, worker: _Worker) -> None:
        assert worker.process is not None
        code, worker.process = worker.process.returncode, None
        was_ready = self._board.is_ready(worker.number)
        self._look()
        self._board.set_ready(worker.number, False)
        if self._stop_by is not None and code == -signal.SIGTERM:
            code = 0  # told before it could listen
        self._bury(worker, code)
        # Who consumed may have ended with any code, by its handler; but not have said the sentence.
        is_hopeless = not was_ready or self._is_refused
        if code in HOPELESS and is_hopeless and self._code is None:
            self._code = code
            self._stop(signal.SIGTERM)
        if self._stop_by is not None or (self._plan.once and code >= 0 and code != 1):
            worker.code = code if code >= 0 else 1
            self._voices[worker.number].forget()
            return
        # Who consumed is needed at once; who did not get so far may not get there next time either.
        delay = 0.0 if was_ready else worker.wait
        worker.wait = _FIRST_WAIT if was_ready else min(worker.wait * 2, _LONGEST_WAIT)
        worker.start_at = time.monotonic() + delay

    @property
    def _is_refused(self) -> bool:
        """:return: Whether a worker has said that Redis refuses what it does: all meet the same."""
        return self._voices[0].was_said("refused")

    def _bury(self, worker: _Worker, code: int) -> None:
        """Free what a worker held, and say so if it ended badly."""
        if self._is_refused:
            return  # it would refuse us too; who could not leave has said what becomes of it
        running = back = dead = 0
        for seat in self._board.seats(worker.number):
            report = seat.read()
            if report is None:
                break
            deadline = time.monotonic() + 2.0
            try:
                _, moved, died = clients.repeat(
                    lambda r=report: self._broker.bury(  # type: ignore[misc]
                        r.queue, r.consumer, known=True, last_seen=r
                    ),
                    deadline,
                )
            except (diagnosis.NotSent, RedisError):
                _logger.warning(
                    "%s: could not free what worker %d held; it is handed on when its lease lapses",
                    report.queue,
                    worker.number + 1,
                )
                moved = died = 0
            running += len(report.running)
            back, dead = back + moved, dead + died
            seat.clear()
        if code not in (0, 6, 7) and code not in HOPELESS:
            _logger.warning(
                "worker %d %s while %d handlers ran; what it had done is settled, %d messages are "
                "handed on, %d became dead letters",
                worker.number + 1,
                ending(code),
                running,
                back,
                dead,
            )


def ending(code: int) -> str:
    """:return: How a process ended, for people."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
