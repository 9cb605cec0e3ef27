"""A queue with producers and consumers, and everything that may happen to them."""

from __future__ import annotations

import re
import time

import redis

from flask_redis_queue.inspector import Inspector

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from .crew import Crew
from .ledger import ACKNOWLEDGED, ATTEMPTED, Pen, Verdict, judge, leftovers, read


class Fleet(Crew):
    """A crew with all that a test asks of it: see :class:`.Crew` for its parameters."""

    # Redis -------------------------------------------------------------------------------------

    def crash_server(self, away: float = 0.0) -> None:
        """Kill Redis with signal 9 in mid-work and start it on the same data.

        :param away: Seconds that it stays away.
        """
        self.server.kill()
        self.proxy.refuse()  # nobody comes in before it is noted what everybody held
        time.sleep(away)
        self.server.start()
        for name in self.names("consume"):
            self._hurt(self.workers[name])
        self.proxy.accept()

    # Looking -----------------------------------------------------------------------------------

    def client(self) -> redis.Redis:
        """:return: A client that no fault reaches."""
        return self.server.client()

    def inspector(self) -> Inspector:
        """:return: What looks at the queue."""
        app, _ = make_app(self.server.url)
        inspector: Inspector = app.extensions["redis_queue"].inspector
        return inspector

    def acknowledged(self) -> int:
        """:return: How many sends have returned."""
        return len(self.marks(ACKNOWLEDGED, "p*"))

    def send(self, count: int) -> list[str]:
        """Send from the test itself, past the proxy.

        :return: The ids.
        """
        app, queue = make_app(self.server.url)
        pen, ids = Pen(self.folder, "ptest"), []
        with app.app_context():
            for _ in range(count):
                self._number += 1
                id = f"ptest-{self._number}"
                pen.write(ATTEMPTED, id)
                queue.send(StockSupplied, GOODS, id=id)
                pen.write(ACKNOWLEDGED, id)
                ids.append(id)
        pen.close()
        return ids

    # The end -----------------------------------------------------------------------------------

    def finish(self) -> Verdict:
        """End the producers, let the consumers drain the queue, end them, and judge.

        :return: The verdict.
        """
        for name in list(self.workers):
            if self._is_running(name):
                self.resume(name)
        self.end_all("produce")
        self._drain()
        self.end_all("consume")
        said = "".join(path.read_text() for path in sorted(self.folder.glob("c*.out")))
        self.failed_starts += re.findall(r".*worker \d+ ended with exit code.*", said)
        return self.verdict()

    def verdict(self) -> Verdict:
        """:return: What the ledger says now."""
        dead = [one.id for one in self.inspector().dead_letters(QUEUE)]
        return judge(read(self.folder), dead=dead, residue=leftovers(self.client()))

    def end_all(self, role: str) -> None:
        """End all that do this, by SIGTERM; each exits with 0."""
        names = self.names(role)
        for name in names:
            self.ask_to_end(name)
        ends = {name: self.wait_for_end(name) for name in names}
        assert dict.fromkeys(names, "ended 0") == ends, self.output(names)

    def _drain(self) -> None:
        inspector = self.inspector()

        def drained() -> bool:
            status = inspector.status(QUEUE)
            # By name: a supervisor that has just tried its own entry is there for a moment, too.
            there = sorted(one.name.rpartition("-")[0] for one in status.consumers)
            living = [one for n in self.names("consume") for one in self.workers[n].consumers]
            busy = status.waiting or status.held or status.delayed
            return not busy and (self.is_naive or there == sorted(living))

        try:
            eventually(drained, "the queue is drained and the dead are buried", 60)
        except AssertionError as error:
            alive = {n: self.forker.state(self.workers[n].pid) for n in self.names("consume")}
            said = self.output(alive)[-3000:]
            raise AssertionError(f"{inspector.status(QUEUE)}\n{alive}\n{said}") from error
