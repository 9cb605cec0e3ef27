"""The test's side of the process that consumers and producers are forked from."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .workers import Order

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Worker:
    """One producer or consumer.

    :param order: What it does.
    :param pid: Its process.
    """

    order: Order
    pid: int

    @property
    def name(self) -> str:
        """:return: Its name."""
        return self.order.name

    @property
    def consumers(self) -> list[str]:
        """:return: The names under which it consumes: its own, or those of its workers."""
        if self.order.role == "many consume":
            return [f"{self.name}.{number}" for number in range(self.order.threads)]
        if self.order.processes == 1:
            return [self.name]
        return [f"{self.name}.{number + 1}" for number in range(self.order.processes)]


class Forker:
    """The process, which ends with this one; see :mod:`.workers`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.workers"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, order: Order) -> int:
        """:return: The process id of a child that follows the order."""
        return int(self._ask(asdict(order)))

    def state(self, pid: int) -> str:
        """:return: ``running``, ``stopped`` (said once), or ``ended`` and the exit code."""
        return self._ask(pid)

    def close(self) -> None:
        """End it, and with it its children."""
        self._process.communicate(timeout=20)

    def _ask(self, question: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], 60)
        assert ready, "the forker does not answer"
        answer = self._process.stdout.readline().decode().strip()
        assert answer, "the forker has ended"
        return answer
