"""What one consumer holds on one queue: what waits, what runs, what is done and not settled yet.

Nothing here asks Redis, and nothing here locks: the subscription does both.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from .board import Seat
from .envelope import Delivery, Message
from .outcomes import Ack, Outcome, settle
from .protocol import Settlement, settled_again

_REMEMBERED = 100
"""Settlements kept for a server that forgot them, because it restarted from an older file."""


class Holdings:
    """The messages of one incarnation.

    :param seat: Where a supervisor reads the same; ``None``: there is no supervisor.
    """

    def __init__(self, seat: Seat | None = None) -> None:
        self.ready: deque[Delivery] = deque()
        self.running: dict[str, Delivery] = {}
        self.done = Settlement()
        self._seat = seat
        self._ready_since = self._done_since = 0.0
        self._unsettled: list[Outcome] = []
        self._in_flight: list[Outcome] = []
        self._recent: deque[Settlement] = deque(maxlen=_REMEMBERED)
        self._consumer = ""

    def __len__(self) -> int:
        return len(self.ready) + len(self.running) + len(self.done)

    def begin(self, queue: str, consumer: str) -> None:
        """Begin a new incarnation, which holds nothing."""
        self.ready.clear()
        self.running.clear()
        self._recent.clear()
        self.done, self._unsettled, self._in_flight = Settlement(), [], []
        self._consumer = consumer
        if self._seat is not None:
            self._seat.enter(queue, consumer)

    def take(self) -> Delivery:
        """:return: The next one to run; there must be one."""
        delivery = self.ready.popleft()
        self.running[delivery.tag] = delivery
        if self._seat is not None:
            self._seat.start(delivery.tag)
        return delivery

    def finish(self, delivery: Delivery, outcome: Outcome) -> None:
        """Note what became of one."""
        tag = delivery.tag
        if self.running.get(tag) is not delivery:
            return  # of an incarnation that is gone, or handed back already
        del self.running[tag]
        if not self._unsettled:
            self._done_since = time.monotonic()
        if type(outcome) is Ack:
            self.done.handled.append(tag)
        else:
            settle(self.done, tag, outcome, self._consumer)
        self._unsettled.append(outcome)
        if self._seat is not None:
            self._seat.finish(tag, handled=type(outcome) is Ack)

    def give_up_ready(self) -> None:
        """Hand back what was not started."""
        self.done.handed_back.extend(one.tag for one in self.ready)
        self.ready.clear()

    def give_up_running(self) -> int:
        """Hand back what runs.

        :return: How many.
        """
        unfinished = list(self.running)
        self.running.clear()
        self.done.handed_back.extend(unfinished)
        return len(unfinished)

    def abandon(self) -> tuple[list[Message], int]:
        """Name what was lost to others, and hold it no more.

        :return: Messages whose handler ended but that were not settled, and how many not started.
        """
        lost = self._in_flight + self._unsettled
        self._in_flight, self._unsettled = [], []
        waiting = len(self.ready)
        self.ready.clear()
        messages = [getattr(outcome, "message", None) for outcome in lost]
        return [message for message in messages if message is not None], waiting

    def draw(self) -> Settlement:
        """:return: What is done, for the next request."""
        settlement, self.done = self.done, Settlement()
        settlement.handed_back.sort(key=_age)  # they come back in the order they came in
        self._in_flight, self._unsettled = self._unsettled, []
        if len(settlement):
            self._recent.append(settlement)
        return settlement

    def begin_with_second(self) -> None:
        """Put the first one behind the second."""
        if len(self.ready) > 1:
            self.ready.insert(1, self.ready.popleft())

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """Note that the last request was applied, and what it brought."""
        if deliveries:
            self.ready.extend(deliveries)
            self._ready_since = time.monotonic()
        self._in_flight = []
        if self._seat is not None:
            self._seat.settle(self.done.handled)

    def is_due(self, done_for: float, now: float) -> bool:
        """:return: Whether something has been done, and not settled, for so many seconds."""
        return len(self.done) > 0 and now - self._done_since >= done_for

    def is_late(self, ready_for: float, now: float) -> bool:
        """:return: Whether something has waited behind a handler for so many seconds."""
        return bool(self.ready and self.running) and now - self._ready_since >= ready_for

    def reconcile(self, held: set[str]) -> None:
        """Agree with a server that forgot something.

        :param held: The tags that it says are ours.
        """
        # What the server took back stands in the queue again: not ours to run.
        self.ready = deque(one for one in self.ready if one.tag in held)
        self.done = self.done.only(held)
        known = {one.tag for one in self.ready} | set(self.running) | self.done.tags()
        self.done.add(settled_again(self._recent, held - known))
        self._recent.clear()


def _age(tag: str) -> list[int]:
    """:return: What sorts tags of one incarnation: the oldest comes first."""
    return [int(part) for part in tag.split("-")]
