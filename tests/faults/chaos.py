"""Mixed chaos: ``python -m tests.faults.chaos --seed 7 --seconds 600``.

Producers and consumers work while a plan hurts them. The seed fixes which faults come, in which
order, upon which process and after which pause; what each process was just doing is up to the
machine, so that a seed repeats a plan and not every microsecond.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .crew import LEASE
from .fleet import Fleet
from .ledger import Verdict

PRODUCERS, CONSUMERS = 3, 4
ROUND = {
    "kill consumer": 10,
    "kill producer": 3,
    "stop consumer": 3,
    "kill redis": 2,
    "script flush": 1,
    "client kill": 1,
    "drop all": 1,
    "hang": 1,
}
"""What one round of the plan has, in random order."""
_CUT = 0.004
"""Which part of all commands loses its connection, half before and half after they were applied."""
_WORKERS_FIRST = 5
"""One kill in so many hits the supervisor, if there is one, and the others its workers."""
_PAUSE = (0.0, 0.4)
"""Seconds between two faults; an arbitrary moment is the point."""


def plan(seed: int) -> Iterator[tuple[float, str, float]]:
    """Make the plan of a seed.

    :return: Without an end: how long to wait, what to do, and a number in [0, 1) that says to whom.
    """
    dice = random.Random(seed)
    while True:
        names = [name for name, times in ROUND.items() for _ in range(times)]
        dice.shuffle(names)
        for name in names:
            yield dice.uniform(*_PAUSE), name, dice.random()


@dataclass(frozen=True)
class Outcome:
    """What a run has come to.

    :param verdict: The checker's.
    :param faults: How often each fault struck.
    :param unsettled: How many messages each hurt consumer had started and not settled.
    :param seconds: How long it took.
    :param failed_starts: Consumers that ended by themselves before they were ready.
    """

    verdict: Verdict
    faults: Counter[str]
    unsettled: list[int]
    seconds: float
    failed_starts: list[str]

    @property
    def kills(self) -> int:
        """:return: How many processes, Redis not counted, were killed with signal 9."""
        return self.faults["kill consumer"] + self.faults["kill producer"]

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {times}" for name, times in sorted(self.faults.items()))
        worst, total = max(self.unsettled, default=0), sum(self.unsettled)
        return (
            f"{self.seconds:.0f}s: {faults}\n"
            f"started and not settled, at {len(self.unsettled)} looks at hurt consumers: "
            f"{total} in all, {worst} at most; {len(self.failed_starts)} starts failed\n"
            f"{self.verdict}"
        )


class Chaos:
    """One run.

    :param fleet: Whom to hurt.
    :param seed: Of the plan.
    :param threads: Handler threads of each consumer.
    :param processes: Worker processes of each consumer.
    """

    def __init__(self, fleet: Fleet, seed: int, threads: int = 1, processes: int = 1) -> None:
        self.fleet = fleet
        self._size: dict[str, Any] = {"threads": threads, "processes": processes}
        self.faults: Counter[str] = Counter()
        self._seed = seed
        self._cuts = random.Random(~seed)
        self._resume: dict[str, float] = {}

    def run(self, is_enough: Callable[[Chaos], bool]) -> Outcome:
        """Start everybody, hurt them until it is enough, and let the rest drain.

        :param is_enough: Asked after each fault.
        :return: What it came to.
        """
        started, fleet = time.monotonic(), self.fleet
        for _ in range(PRODUCERS):
            fleet.start("produce")
        for _ in range(CONSUMERS):
            fleet.start("consume", **self._size)
        fleet.proxy.cut_reply(lambda _: self._cuts.random() < _CUT / 2, sys.maxsize)
        fleet.proxy.cut_request(lambda _: self._cuts.random() < _CUT / 2, sys.maxsize)
        for pause, name, whom in plan(self._seed):
            self._wait(pause)
            getattr(self, f"_{name.replace(' ', '_')}")(whom)
            self.faults[name] += 1
            if is_enough(self):
                break
        self.faults["cut"] = fleet.proxy.cuts
        fleet.proxy.pass_through()
        verdict = fleet.finish()
        took = time.monotonic() - started
        unsettled, failed = fleet.witness.unsettled, fleet.failed_starts
        return Outcome(verdict, self.faults, unsettled, took, failed)

    def _wait(self, pause: float) -> None:
        until = time.monotonic() + pause
        for name, due in sorted(self._resume.items(), key=lambda one: one[1]):
            if due <= until:
                time.sleep(max(0.0, due - time.monotonic()))
                self.fleet.resume(name)
                del self._resume[name]
        time.sleep(max(0.0, until - time.monotonic()))

    def _pick(self, role: str, whom: float) -> str:
        names = sorted(self.fleet.names(role))
        return names[int(whom * len(names))]

    def _kill_consumer(self, whom: float) -> None:
        name, worker = self._pick("consume", whom), self._worker(whom)
        others = [one for one in sorted(self.fleet.names("consume")) if one != name]
        if worker and any(self.fleet.kill_worker(one, worker - 1) for one in (name, *others)):
            self.faults["kill worker"] += 1
            return
        self._resume.pop(name, None)
        self.fleet.kill(name)
        self.fleet.start("consume", **self._size)

    def _worker(self, whom: float) -> int:
        """:return: Which worker of a supervisor is meant, from 1; 0: the supervisor itself."""
        processes = self._size["processes"]
        if processes == 1:
            return 0
        dice = int(whom * 1e6) % (_WORKERS_FIRST * processes)  # other digits than those of _pick
        return dice % processes + 1 if dice >= processes else 0

    def _kill_producer(self, whom: float) -> None:
        name = self._pick("produce", whom)
        self.fleet.kill(name)
        self.fleet.start("produce", name)

    def _stop_consumer(self, whom: float) -> None:
        name = self._pick("consume", whom)
        if name not in self._resume:
            self.fleet.stop(name, max(0, self._worker(whom) - 1))
        self._resume[name] = time.monotonic() + LEASE + 0.3 + whom

    def _kill_redis(self, whom: float) -> None:
        self.fleet.crash_server(whom / 2)

    def _script_flush(self, whom: float) -> None:
        self.fleet.client().script_flush()

    def _client_kill(self, whom: float) -> None:
        self.fleet.client().client_kill_filter(_type="normal", skipme=True)

    def _drop_all(self, whom: float) -> None:
        self.fleet.proxy.drop()

    def _hang(self, whom: float) -> None:
        self.fleet.proxy.hang()
        time.sleep(whom / 2)
        self.fleet.proxy.accept()


def main() -> int:
    """Run it and print the figures.

    :return: 1 if the checker is red.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--seconds", type=float, default=60.0, help="default: 60")
    parser.add_argument("--naive", action="store_true", help="hurt the LPUSH/BRPOP pair instead")
    parser.add_argument("--threads", type=int, default=1, help="handler threads; default: 1")
    parser.add_argument("--processes", type=int, default=1, help="workers of each; default: 1")
    parser.add_argument("--fsync", default="no", help="of Redis; see fleet.py; default: no")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}, {given.seconds:g}s", flush=True)
    end = time.monotonic() + given.seconds
    with (
        tempfile.TemporaryDirectory() as folder,
        Fleet(Path(folder), naive=given.naive, fsync=given.fsync) as fleet,
    ):
        outcome = Chaos(fleet, seed, given.threads, given.processes).run(
            lambda _: time.monotonic() >= end
        )
        verdict = outcome.verdict
        print(f"{outcome}\nseed {seed}")
        for what in ("lost", "ghosts", "unexplained", "unacknowledged", "residue"):
            for line in itertools.islice(getattr(verdict, what), 20):
                print(f"  {what}: {line}")
        print(*outcome.failed_starts, sep="\n")
    return 0 if verdict.is_green else 1


if __name__ == "__main__":
    sys.exit(main())
