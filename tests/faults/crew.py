"""The processes that use a queue, and what may happen to each of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..conftest import eventually
from ..proxy import Proxy
from ..servers import RealServer
from . import processes
from .forker import Forker, Worker
from .ledger import READY, Witness, lines
from .workers import Order

LEASE = 1.5
SETTINGS = {
    "REDIS_QUEUE_LEASE": LEASE,
    "REDIS_QUEUE_MAX_LENGTH": 1000,  # keeps producers from running away from hurt consumers
    "REDIS_QUEUE_MAX_DELIVERIES": 1000,  # a run kills so often that honest messages would die of it
}


class Crew:
    """A server, a proxy before it, and the processes that use it.

    :param folder: Where data and ledger go.
    :param naive: Whether the naive pair works instead of the real one.
    :param fsync: When Redis has the disk sync its append-only file.
    :param settings: Lines for ``app.config`` beside :data:`SETTINGS`.
    """

    def __init__(
        self, folder: Path, *, naive: bool = False, fsync: str = "no", **settings: Any
    ) -> None:
        self.folder = folder
        self.is_naive = naive
        self.settings = SETTINGS | settings
        data = folder / "server"
        data.mkdir()
        # With everysec Redis puts its write() off while the disk syncs, so that even kill -9 loses
        # what it has answered in these milliseconds. That is its own promise, and not ours to test
        # here: `no` hands each write to the kernel before the answer, which kill -9 cannot undo.
        self.server = RealServer(data, appendfsync=fsync, auto_aof_rewrite_percentage="0")
        self.proxy = Proxy(self.server.port)
        self.forker = Forker()
        self.witness = Witness(folder)
        self.workers: dict[str, Worker] = {}
        self.failed_starts: list[str] = []
        self._number = 0

    def __enter__(self) -> Self:
        self.server.start()
        self.proxy.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.forker.close()
        self.proxy.__exit__()
        self.server.kill()
        self.witness.close()

    def start(self, role: str, name: str = "", url: str = "", **options: Any) -> Worker:
        """Start a process.

        :param role: ``produce`` or ``consume``.
        :param name: Its name; left out: a new one.
        :param url: How it gets to Redis; left out: by the proxy.
        :param options: More fields of the :class:`.Order`.
        :return: It.
        """
        self._number += 1
        name = name or f"{role[0]}{self._number}"
        known = f"naively {role}" if self.is_naive else role
        url = url or self.proxy.url
        order = Order(known, name, str(self.folder), url, self.settings, **options)
        worker = self.workers[name] = Worker(order, self.forker.start(order))
        return worker

    def names(self, role: str) -> list[str]:
        """:return: The names of all that run and do this, oldest first."""
        return [n for n, worker in self.workers.items() if worker.order.role.endswith(role)]

    def kill(self, name: str) -> None:
        """Kill it with signal 9, and note what it leaves behind.

        Of a supervisor the workers hear of it; they finish what they do, leave, and tell themselves
        what they have lost.
        """
        if not self._is_running(name):
            return
        worker = self.workers[name]
        orphans = processes.children(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)
        self.wait_for_end(name)
        for pid in orphans:
            processes.send(pid, signal.SIGCONT)
        eventually(lambda: not any(map(processes.is_there, orphans)), f"{name}'s workers end", 60)
        self._hurt(worker, for_good=worker.order.processes == 1)

    def kill_worker(self, name: str, number: int) -> bool:
        """Kill one of the processes that a supervisor has, and note what it leaves behind.

        :param name: The supervisor.
        :param number: Of the worker, from 0; if it has not begun to work, another.
        :return: Whether there was one.
        """
        many = self.workers[name].order.processes
        for one in range(many):
            pid = self._halt_worker(name, (number + one) % many, for_good=True)
            if pid:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def stop(self, name: str, number: int = 0) -> None:
        """Make it stand still, and note what it holds meanwhile.

        :param name: Who.
        :param number: Of a supervisor: which of its workers stands still.
        """
        if not self._is_running(name):
            return
        worker = self.workers[name]
        if worker.order.processes > 1:
            self._halt_worker(name, number)
            return
        os.kill(worker.pid, signal.SIGSTOP)
        eventually(lambda: self.forker.state(worker.pid) != "running", f"{name} stands still", 60)
        if self._is_running(name):  # it may have ended by itself just before
            self._hurt(worker)

    def _halt_worker(self, name: str, number: int, *, for_good: bool = False) -> int:
        """Make a worker stand still, so that nobody deals with what it holds before it is noted."""
        consumer = self.workers[name].consumers[number]
        ready = [words for _, words in lines(self.folder, consumer) if words[0] == READY]
        pid = int(ready[-1][2]) if ready else 0
        if pid not in processes.children(self.workers[name].pid):
            return 0
        processes.send(pid, signal.SIGSTOP)
        settled = ("T", "Z", "")  # it may have been killed just now
        eventually(lambda: processes.state(pid) in settled, f"{consumer} stands still", 60)
        if processes.state(pid) != "T":
            return 0
        # It may have stood still for so long that others had taken it for dead before this look.
        self.witness.hurt(self.server.client(), consumer, for_good=for_good)
        return pid

    def _is_running(self, name: str) -> bool:
        """:return: Whether it is; one that has begun to work may not end by itself."""
        worker = self.workers[name]
        state = self.forker.state(worker.pid)
        if not state.startswith("ended"):
            return True
        begun = any(self.marks(READY, one) for one in worker.consumers)
        assert not begun, f"{name} {state}: {self.output([name])}"
        self.failed_starts.append(f"{name} {state}: {self.output([name])[-200:]}")
        del self.workers[name]
        return False

    def wait_for_end(self, name: str, timeout: float = 60) -> str:
        """:return: ``ended`` and its exit code, negative for a signal."""
        worker = self.workers[name]
        states: list[str] = []

        def ended() -> bool:
            states.append(self.forker.state(worker.pid))
            return states[-1].startswith("ended")

        eventually(ended, f"{name} ends", timeout)
        del self.workers[name]
        return states[-1]

    def resume(self, name: str) -> None:
        """End :meth:`stop`, if it lives."""
        if name in self.workers:
            pid = self.workers[name].pid
            for one in (pid, *processes.children(pid)):
                processes.send(one, signal.SIGCONT)

    def ask_to_end(self, name: str) -> None:
        """Send it SIGTERM."""
        os.kill(self.workers[name].pid, signal.SIGTERM)

    def _hurt(self, worker: Worker, *, for_good: bool = False) -> None:
        for name in worker.consumers:
            if self.is_naive:
                self.witness.hurt_naive(name)
            else:
                self.witness.hurt(self.server.client(), name, for_good=for_good)

    def output(self, names: Iterable[str]) -> str:
        """:return: What these processes printed."""
        paths = [self.folder / f"{name}.out" for name in names]
        return "".join(path.read_text() for path in paths if path.exists())

    def marks(self, mark: str, names: str = "c*") -> list[str]:
        """:return: The ids that these processes marked so."""
        return [words[0] for _, (found, *words) in lines(self.folder, names) if found == mark]
