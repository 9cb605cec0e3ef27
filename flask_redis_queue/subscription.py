"""One consumer's place at one queue: its incarnation, its sequence, what it holds.

The thread that runs handlers and the lease thread share it. Every turn goes out under one lock, so
that there is one outstanding request; one that failed is repeated as it stood before anything new.
Its number names it, so that a repeat moves nothing twice.
"""

from __future__ import annotations

import os
import threading
import time

import redis
from redis.exceptions import ResponseError

from .board import Seat
from .broker import Broker
from .diagnosis import is_full
from .envelope import Delivery, Message
from .holdings import Holdings
from .outcomes import Outcome
from .protocol import TurnReply, TurnRequest


class Gone(Exception):
    """The consumer was taken for dead, or the server forgot it: what it holds is not its own."""


class Subscription:
    """The state of one consumer on one queue.

    :param broker: The app's queues.
    :param queue: Which queue.
    :param name: What people call the consumer; each incarnation adds a random end to it.
    :param blocking_pool: Connections that may wait.
    :param seat: Where a supervisor reads what this process does.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        name: str,
        blocking_pool: redis.ConnectionPool,
        seat: Seat | None = None,
    ) -> None:
        self.queue = queue
        self.consumer = ""
        self.wait_refused: ResponseError | None = None
        self._broker = broker
        self._name = name
        self._blocking_pool = blocking_pool
        self._lease = broker.config.lease
        self._io = threading.Lock()  # one outstanding turn
        self._state = threading.Lock()  # all that follows; never held while Redis is asked
        self._seq = 0
        self._pending: TurnRequest | None = None
        self._holds = Holdings(seat)
        self._renewed, self._clock = 0.0, (0.0, 0.0)
        self._gone, self._entering = False, ""

    # What the handler thread does ------------------------------------------------------------

    def enter(self) -> None:
        """Begin a new incarnation; what an older one held is not this one's."""
        with self._io:
            # Kept until Redis has answered: repeating it under this name makes no second consumer.
            self._entering = consumer = self._entering or f"{self._name}-{os.urandom(4).hex()}"
            sent = time.monotonic()
            seq = self._broker.enter(self.queue, consumer)
            with self._state:
                self.consumer, self._seq, self._pending = consumer, seq, None
                self._holds.begin(self.queue, consumer)
                self._renewed, self._gone, self._entering = sent, False, ""

    def take(self) -> Delivery | None:
        """Take the next delivery to run, if one may start.

        :return: The delivery; ``None``: there is none, or the lease must be renewed first.
        """
        with self._state:
            if self._gone or not self._holds.ready or not self._is_fresh():
                return None
            return self._holds.take()

    def finish(self, delivery: Delivery, outcome: Outcome) -> None:
        """Note what became of a delivery; a turn settles it."""
        with self._state:
            self._holds.finish(delivery, outcome)

    def turn(self, n: int, *, block: float = 0.0) -> TurnReply:
        """Settle what is done and take up to ``n`` messages.

        A request whose reply was lost goes first, and alone: then nothing is taken by this one.

        :param n: Most messages to take; 0 only settles.
        :param block: Seconds to wait for the queue to have something.
        :return: What it brought; :meth:`take` gives the deliveries.
        :raises Gone: If this incarnation has ended; :meth:`enter` begins another.
        """
        with self._io:
            return self._turn(n, block)

    def begin_with_second(self) -> None:
        """Put the first of what is ready behind the second."""
        with self._state:
            self._holds.begin_with_second()

    def give_up_ready(self) -> None:
        """Hand back, with the next turn, what was not started."""
        with self._state:
            self._holds.give_up_ready()

    def abandon(self) -> tuple[list[Message], int]:
        """After :class:`Gone`: name what was lost to others.

        :return: Messages whose handler ended but that were not settled, and how many not started.
        """
        with self._state:
            return self._holds.abandon()

    @property
    def is_entered(self) -> bool:
        """:return: Whether there is an incarnation now."""
        return bool(self.consumer) and not self._gone

    @property
    def ready(self) -> int:
        """:return: How many messages wait here to be run."""
        return len(self._holds.ready)

    @property
    def now(self) -> float:
        """:return: The server's time, from its last reply and our own clock's steps since."""
        server, local = self._clock
        return server + time.monotonic() - local

    # What the lease thread does --------------------------------------------------------------

    def beat(self) -> list[str]:
        """Renew the lease.

        :return: Consumers whose lease has lapsed.
        :raises Gone: If this incarnation has ended.
        """
        sent = time.monotonic()
        consumer = self.consumer
        if self._gone:
            return []
        lapsed = self._broker.beat(self.queue, consumer)
        with self._state:
            if consumer != self.consumer or self._gone:
                return []
            if lapsed is None:
                self._gone = True
                raise Gone
            self._renewed = max(self._renewed, sent)
        return lapsed

    def flush(self, *, done_for: float, ready_for: float) -> None:
        """Settle what is done, and hand back what waits too long, while a handler runs.

        :param done_for: Leave outcomes that are younger, in seconds.
        :param ready_for: Hand back what has waited this long to be started, in seconds.
        :raises Gone: If this incarnation has ended.
        """
        now = time.monotonic()
        with self._state:
            done = self._holds.is_due(done_for, now)
            late = self._holds.is_late(ready_for, now)
        # Where the handler thread is in mid-turn, it settles by itself.
        if self._gone or not (done or late) or not self._io.acquire(blocking=False):
            return
        try:
            if late:
                self.give_up_ready()
            self._turn(0, 0.0)
        finally:
            self._io.release()

    # The end -----------------------------------------------------------------------------------

    def hand_back_all(self) -> int:
        """Give up everything, even what runs: for a process that must end now.

        :return: How many running messages were handed back.
        """
        with self._io:
            with self._state:
                unfinished = self._holds.give_up_running()
            self._settle_all()
        return unfinished

    def leave(self) -> None:
        """Hand back what was not started, settle the rest, and end this incarnation."""
        with self._io:
            if self._gone:
                return
            self._settle_all()
            if not self._holds.running:
                self._broker.bury(self.queue, self.consumer, known=True)
                self._gone = True

    def _settle_all(self) -> None:
        self.give_up_ready()
        while self._pending is not None or len(self._holds.done):
            self._turn(0, 0.0)
            self.give_up_ready()  # a repeated request may have brought messages

    # The protocol ------------------------------------------------------------------------------

    def _turn(self, n: int, block: float) -> TurnReply:
        with self._state:
            if self._gone:
                raise Gone
            if self._pending is None:
                self._pending = self._request(n)
            request = self._pending
        sent = time.monotonic()
        self.wait_refused = None
        if block > 0:
            reply, self.wait_refused = self._broker.turn_when_woken(
                self._blocking_pool, self.queue, request, block
            )
        else:
            reply = self._broker.turn(self.queue, request)
        accepted = self._accept(request, reply, sent)
        if self.wait_refused is not None and not is_full(self.wait_refused):
            raise self.wait_refused
        return accepted

    def _request(self, n: int) -> TurnRequest:
        settlement = self._holds.draw()
        alone = not self._holds.running and not self._holds.ready
        return TurnRequest(self.consumer, self._seq + 1, settlement, n, alone)

    def _accept(self, request: TurnRequest, reply: TurnReply, sent: float) -> TurnReply:
        if reply.status == "gone":
            with self._state:
                self._gone, self._pending = True, None
            raise Gone
        if reply.status != "ok":
            self._resync()
            return TurnReply("ok", reply.now, waiting=1)
        with self._state:
            self._seq, self._pending = request.seq, None
            self._renewed = max(self._renewed, sent)
            self._clock = (reply.now / 1000, time.monotonic())
            self._holds.accept(reply.deliveries)
            expected = len(self._holds)
        if reply.held != expected:
            self._resync()
        return reply

    def _resync(self) -> None:
        """The server holds something else than we know: it forgot. Agree on what is ours."""
        answer = self._broker.resync(self.queue, self.consumer, self._seq + 2)
        with self._state:
            self._pending = None
            if answer is None:
                self._gone = True
                raise Gone
            self._seq, tags = answer
            self._holds.reconcile(set(tags))

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._renewed < self._lease
