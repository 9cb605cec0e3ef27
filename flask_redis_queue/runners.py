"""Who runs the handlers: the consumer's own thread, or several threads beside it.

The consumer's own thread asks Redis; a runner only takes what a subscription holds. One thread
keeps the order of the queue, and costs nothing for switching.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from .envelope import Delivery
from .guard import Guard, Interrupted
from .outcomes import HandBack, Outcome
from .processor import Processor
from .subscription import Subscription

_logger = logging.getLogger("flask_redis_queue")

OnOutcome = Callable[[Subscription, Outcome, float], None]
"""Told each outcome and the seconds that it took, by the thread that made it."""


class Runner(Protocol):
    """What a consumer asks of it."""

    @property
    def running(self) -> int:
        """:return: How many handlers run now."""

    def start(self) -> None:
        """Begin."""

    def take_up(self, one: Subscription) -> None:
        """Run what a subscription holds; return when there should be more of it."""

    def rest(self, seconds: float) -> None:
        """Wait until a handler ends, at most so long."""

    def close(self) -> None:
        """Take nothing more, and wait for the end of what runs."""


class OwnThread:
    """Runs handlers in the consumer's own thread.

    :param processor: What runs one.
    :param guard: Which guards that thread.
    :param may_start: Asked before each message: whether another one may be run.
    :param on_outcome: Told each outcome.
    """

    running = 0

    def __init__(
        self,
        processor: Processor,
        guard: Guard,
        may_start: Callable[[], bool],
        on_outcome: OnOutcome,
    ) -> None:
        self._processor = processor
        self._guard = guard
        self._may_start = may_start
        self._on_outcome = on_outcome

    def start(self) -> None:
        """Begin."""
        self._guard.adopt()

    def take_up(self, one: Subscription) -> None:
        """Run all that a subscription holds; what may not be started goes back."""
        process, finish, tell = self._processor.process, one.finish, self._on_outcome
        while self._may_start():
            delivery = one.take()
            if delivery is None:
                if not (one.ready and one.is_entered):
                    break
                one.turn(0)  # the lease is old: no handler starts before it is renewed
                continue
            started = time.perf_counter()
            outcome = process(delivery, one.now)
            finish(delivery, outcome)
            tell(one, outcome, time.perf_counter() - started)
        if one.ready:
            one.give_up_ready()

    def rest(self, seconds: float) -> None:
        """Nothing runs when this thread is here to ask."""

    def close(self) -> None:
        """Close the event loop of ``async def`` handlers."""
        self._processor.close()


class Threads:
    """Runs handlers in several threads.

    :param processors: One for each thread, with its guard.
    :param subscriptions: What to take from, in this order.
    :param may_start: Asked before each message: whether another one may be run.
    :param on_outcome: Told each outcome.
    """

    def __init__(
        self,
        processors: Sequence[tuple[Processor, Guard]],
        subscriptions: Sequence[Subscription],
        may_start: Callable[[], bool],
        on_outcome: OnOutcome,
    ) -> None:
        self.running = 0
        self._subscriptions = subscriptions
        self._may_start = may_start
        self._on_outcome = on_outcome
        self._condition = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=pair, name=f"handler-{number}", daemon=True)
            for number, pair in enumerate(processors, 1)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def take_up(self, one: Subscription) -> None:
        """Let the threads take what is there; return when they will soon have nothing to do."""
        with self._condition:
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._closed or self._is_hungry(), timeout=0.1)

    def rest(self, seconds: float) -> None:
        """Wait until a handler ends, at most so long."""
        with self._condition:
            if self.running:
                self._condition.wait(seconds)

    def close(self) -> None:
        """Take nothing more, and wait for the end of what runs."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _is_hungry(self) -> bool:
        return sum(one.ready for one in self._subscriptions) < len(self._threads)

    def _run(self, processor: Processor, guard: Guard) -> None:
        guard.adopt()
        while not self._closed:
            try:
                self._run_one(processor)
            except Interrupted:
                continue  # meant for a handler that had just ended
            except BaseException:
                # A thread less would be a slower consumer that nobody notices.
                _logger.exception("A handler thread met an error and goes on.")
        processor.close()

    def _run_one(self, processor: Processor) -> None:
        with self._condition:
            found = self._choose()
            if found is None:
                # Where the lease is too old to start anything, nobody says that it was renewed.
                held = any(one.ready for one in self._subscriptions)
                self._condition.wait(0.05 if held else None)
                return
            self.running += 1
            self._condition.notify_all()
        one, delivery = found
        started = time.perf_counter()
        outcome: Outcome = HandBack()  # should this very code fail, it is not held for ever
        try:
            outcome = processor.process(delivery, one.now)
        finally:
            one.finish(delivery, outcome)
            self._on_outcome(one, outcome, time.perf_counter() - started)
            with self._condition:
                self.running -= 1
                self._condition.notify_all()

    def _choose(self) -> tuple[Subscription, Delivery] | None:
        for one in self._subscriptions:
            if one.ready and not self._closed and self._may_start():
                delivery = one.take()
                if delivery is not None:
                    return one, delivery
        return None
