"""The lease thread: it says that this consumer lives while a handler keeps its thread busy.

It renews the leases, has lapsed consumers buried, settles outcomes that would wait behind a slow
handler, hands back what waits behind one, and ends a handler that outlives the stop timeout.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence

from redis.exceptions import RedisError

from . import diagnosis
from .broker import Broker
from .outage import Outage
from .subscription import Gone, Subscription

_logger = logging.getLogger("flask_redis_queue")

_TICK = 0.01
"""How often a busy consumer is looked at: no outcome waits much longer than this, in seconds."""
_READY_FOR = 1.0
"""How long a message may wait behind a running handler before somebody else may have it."""


class LeaseKeeper:
    """The thread.

    :param broker: The app's queues.
    :param subscriptions: What to keep.
    :param outage: Where trouble is told.
    :param on_tick: Called on each round: the stop switch looks at its deadline here.
    :param on_dead: Told how many dead letters burying a consumer has made.
    """

    def __init__(
        self,
        broker: Broker,
        subscriptions: Sequence[Subscription],
        outage: Outage,
        on_tick: Callable[[], None],
        on_dead: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._broker = broker
        self._subscriptions = subscriptions
        self._outage = outage
        self._on_tick, self._on_dead = on_tick, on_dead
        # A beat a second finds a lapsed consumer within a second of its lease's end.
        self._interval = min(1.0, broker.config.lease / 3)
        self._busy = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-queue-lease", daemon=True)
        self.error: RedisError | diagnosis.NotSent | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self._stop.set()
        self._busy.set()
        if self._thread.ident is not None:
            self._thread.join()

    def busy(self, is_busy: bool) -> None:
        """Say whether the consumer holds anything: then outcomes must not wait."""
        if is_busy:
            self._busy.set()
        else:
            self._busy.clear()

    def _run(self) -> None:
        next_beat = time.monotonic() + self._interval
        while not self._stop.is_set():
            if self._busy.is_set():
                self._stop.wait(_TICK)
            else:
                self._busy.wait(min(max(0.0, next_beat - time.monotonic()), 0.1))
            self._on_tick()
            beat = time.monotonic() >= next_beat
            if beat:
                next_beat = time.monotonic() + self._interval
            asked = time.monotonic()
            try:
                self._round(beat)
            except (diagnosis.NotSent, RedisError) as error:
                if diagnosis.kind(error) != "away":
                    self.error = error
                    break
                self._stop.wait(self._outage.begin(error, self._busy.is_set(), asked))
            except Exception:
                # This thread must not end: without it the consumer is taken for dead.
                _logger.exception("The lease thread met an error and goes on.")

        while not self._stop.wait(_TICK):  # what runs still has its deadlines
            self._on_tick()

    def _round(self, beat: bool) -> None:
        for one in self._subscriptions:
            with contextlib.suppress(Gone):  # the handler thread meets it too, and enters anew
                one.flush(done_for=_TICK / 2, ready_for=_READY_FOR)
                if beat:
                    self._beat(one)

    def _beat(self, one: Subscription) -> None:
        asked = time.monotonic()
        lapsed = one.beat()
        self._outage.end(asked)
        for consumer in lapsed:
            buried, back, dead = self._broker.bury(one.queue, consumer)
            self._on_dead(dead)
            if buried:
                _logger.warning(
                    "%s: consumer %s was silent for more than its lease; %d messages of its are "
                    "handed on, %d became dead letters",
                    one.queue,
                    consumer,
                    back,
                    dead,
                )
