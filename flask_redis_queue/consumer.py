"""The loop of ``flask consume``: turn, process, buffer outcomes, stop.

The life of a message here:

1. A turn settles what was done before and brings up to ``n`` deliveries (:mod:`.subscription`).
2. Each goes through the processor, which says what becomes of it (:mod:`.processor`).
3. Outcomes wait for the next turn; the lease thread settles them earlier if a handler is slow.
4. When a queue is empty, the turn waits for it inside Redis, so that waking costs one round trip.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest

import redis
from redis.exceptions import RedisError

from . import clients, diagnosis, farewell, signals
from .board import Seat
from .broker import Broker
from .envelope import Message
from .guard import Guard
from .lease import LeaseKeeper
from .outage import Outage
from .outcomes import Outcome
from .pace import Limits, Pace, Tally
from .pausing import Pauses
from .processor import Processor
from .protocol import TurnReply
from .runners import OwnThread, Runner, Threads
from .scales import Scales
from .stopping import StopSwitch
from .subscription import Gone, Subscription
from .voice import Voice
from .waiting import Waiters

_BLOCK, _PATIENCE = 0.5, 10.0
"""Longest wait inside Redis, for what is due does not wake the waiter; and for Redis in a check."""


class Consumer:
    """One consumer: one or several threads that run handlers, over one or several queues.

    :param broker: The app's queues, over connections of its own, which it closes when it ends.
    :param blocking_pool: More of them, that may wait inside Redis.
    :param make_processor: Makes the processor, given its guard and who says what is to blame.
    :param queues: What to read, in this order.
    :param name: What people call this consumer.
    :param limits: When to stop.
    :param stop_timeout: Seconds that a running handler gets after a stop was asked for.
    :param sender: The app, for signals.
    :param on_ready: Called when Redis has accepted everything that a consumer does.
    :param on_stuck: Called last, if it cannot end: whether it stops, or a ``timeout=`` is over.
    :param concurrency: How many threads run handlers.
    :param seats: Where a supervisor reads what it does, one for each queue.
    :param voice: What it may say of trouble for its supervisor's whole command.
    :param on_left: Called when it has left its queues, with what is left of the stop timeout.
    """

    def __init__(
        self,
        broker: Broker,
        blocking_pool: redis.ConnectionPool,
        make_processor: Callable[[Guard, Callable[[Message], bool]], Processor],
        queues: Sequence[str],
        name: str,
        limits: Limits,
        stop_timeout: float,
        sender: object,
        on_ready: Callable[[], None] = lambda: None,
        on_stuck: Callable[[bool], None] = lambda is_stopping: None,
        concurrency: int = 1,
        seats: Sequence[Seat] = (),
        voice: Voice | None = None,
        on_left: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.name, self.queues, self.tally = name, list(queues), Tally()
        self.limits, self.concurrency = limits, concurrency
        self._broker, self._blocking_pool = broker, blocking_pool
        self._sender, self._on_ready, self._on_left = sender, on_ready, on_left
        self._on_stuck = on_stuck
        self._outage = Outage(broker.config, voice)
        guards = [Guard() for _ in range(concurrency)]
        self._switch = StopSwitch(stop_timeout, guards, self._stuck)
        pairs = zip_longest(self.queues, seats[: len(self.queues)])
        self._subscriptions = [Subscription(broker, q, name, blocking_pool, s) for q, s in pairs]
        tell = (self._outage, self._tick, self.tally.add_dead)
        self._keeper = LeaseKeeper(broker, self._subscriptions, *tell)
        self._pauses, self._lock, self._started = Pauses(), threading.Lock(), False
        processors = [make_processor(guard, self._pauses.is_to_blame) for guard in guards]
        self._judge = processors[0]
        self._runner = self._make_runner(processors, guards)
        pools = (broker.pool, blocking_pool)
        self._leave = partial(farewell.leave, self._subscriptions, self._outage, sender, pools)
        self._waiters: Waiters | None = None
        self._until, self._pace = float("inf"), Pace(broker.config.prefetch)
        self._block = self._due = 0.0
        self._scales = Scales(limits.max_memory)

    def _make_runner(self, processors: list[Processor], guards: list[Guard]) -> Runner:
        pairs = list(zip(processors, guards, strict=True))
        if len(pairs) == 1:
            return OwnThread(*pairs[0], self._may_start, self._on_outcome)
        return Threads(pairs, self._subscriptions, self._may_start, self._on_outcome)

    def stop(self) -> None:
        """Ask it to stop, from any thread; a running handler gets the stop timeout."""
        self._switch.request()

    @property
    def was_late(self) -> bool:
        """:return: Whether a handler was cut off because stopping took too long."""
        return self._switch.was_late

    def run(self) -> Tally:
        """Consume until a limit is reached, or a stop is asked for.

        :return: What was done.
        :raises QueueRefused: If Redis refuses the login or a command.
        """
        if self.limits.max_seconds:
            self._until = time.monotonic() + self.limits.max_seconds
        with self._switch:
            try:
                while not (self._started or self._is_over()):
                    self._guarded(self._start)
                if self._started:
                    self._open()
                while not self._is_over():
                    self._guarded(self._round)
            except (diagnosis.NotSent, RedisError) as error:
                raise diagnosis.refused(error, self._broker.config) from error
            finally:
                self._end()
        return self.tally

    def check(self) -> None:
        """Do once all that a consumer does, but take nothing.

        :raises QueueRefused: If Redis refuses the login or a command.
        """
        try:
            while not self._started:
                with contextlib.suppress(Gone):
                    clients.repeat(self._start, time.monotonic() + _PATIENCE)
            self._scales.check()
        except (diagnosis.NotSent, RedisError) as error:
            raise diagnosis.refused(error, self._broker.config) from error
        finally:
            self._leave()

    def _start(self) -> None:
        """Do once all that a consumer does, so that "ready" is true when it is said."""
        for one in self._subscriptions:
            self._due = time.monotonic()
            if not one.is_entered:
                one.enter()
            one.turn(0)
            self._outage.end(self._due)
            one.beat()
            try:
                self._broker.try_wait(self._blocking_pool, one.queue)
            except redis.ResponseError as error:
                if not diagnosis.is_full(error):
                    raise
        self._started = True

    def _open(self) -> None:
        """Say that it is ready, and start the threads."""
        self._scales.check()
        self._keeper.start()
        self._runner.start()
        # Who waits inside a turn settles nothing meanwhile: with threads, others would wait for it.
        if len(self._subscriptions) > 1 or self.concurrency > 1:
            self._waiters = Waiters(self._broker, self._blocking_pool, self.queues)
        self._on_ready()
        signals.emit(signals.consumer_started, self._sender, consumer=self.name)

    def _end(self) -> None:
        self._switch.begin_end()
        self._runner.close()
        self._keeper.stop()
        if self._waiters is not None:
            self._waiters.close()
        self._leave()
        self._on_left(self._switch.time_left)
        signals.emit(signals.consumer_stopped, self._sender, consumer=self.name)

    def _is_over(self) -> bool:
        if self._keeper.error is not None:
            raise self._keeper.error
        limit = self.limits.max_messages
        return (
            self._switch.requested
            or time.monotonic() >= self._until
            or (limit > 0 and self.tally.total >= limit)
        )

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._until or self._scales.is_over(now):
            self._switch.request()
        self._switch.tick()

    def _stuck(self, guard: Guard | None) -> None:
        is_stopping = guard is None or not guard.has_timed_out
        self.tally.handed_back += farewell.give_up(self._subscriptions, guard, self._judge)
        self._on_stuck(is_stopping)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do it; wait where Redis is away."""
        try:
            with contextlib.suppress(Gone):  # buried before it was ready: it enters anew
                work()
        except (diagnosis.NotSent, RedisError) as error:
            if diagnosis.kind(error) != "away":
                raise
            self._switch.event.wait(self._outage.begin(error, False, self._due))

    def _round(self) -> None:
        """Run what the first queue that has something gives; if none has, wait."""
        due, empty = _BLOCK, True
        for one in self._subscriptions:
            rest = self._pauses.left(one.queue)
            try:
                reply = self._turn(one, rest)
                if one.ready:
                    self._block = 0.0
                    self._keeper.busy(True)
                    self._due = float("inf")  # of what handlers take, Redis is not accused
                    self._runner.take_up(one)
                    return
            except Gone:
                self._outage.tell_lost(one.queue, *one.abandon(), self._sender)
                one.enter()
                return
            if rest or reply.due_ms >= 0:
                due = min(due, rest or reply.due_ms / 1000)
            empty = empty and (reply.waiting == 0 or bool(reply.paused)) and reply.due_ms != 0
        self._block = 0.0
        resting = any(self._pauses.left(queue) for queue in self.queues)
        if self._runner.running and (self.limits.burst or not self._may_start()):
            self._runner.rest(_BLOCK)
        elif empty and self.limits.burst and not resting:
            self._switch.event.set()
        elif empty or resting:
            self._wait(due, resting)

    def _turn(self, one: Subscription, rest: float) -> TurnReply:
        asked = time.monotonic()
        limit = self.limits.max_messages
        left = limit - self.tally.total - self._runner.running if limit else None
        n = self._pace.appetite(left)
        if rest or (left is not None and left <= 0):
            n = 0
        elif probe := self._pauses.probe(one.queue):
            n = min(n, probe)
        self._due = time.monotonic() + self._block
        reply = one.turn(n, block=self._block)
        self._outage.end(asked, self._due)
        if n == self._pauses.probe(one.queue) == 2:
            one.begin_with_second()
        self._pauses.note_operator(one.queue, reply.paused)
        for birth in reply.large:
            self.tally.count(self._judge.refuse_unread(one.queue, birth))
        return reply

    def _wait(self, due: float, resting: bool) -> None:
        if not self._runner.running:
            self._keeper.busy(False)
        block = max(0.001, min(due, self._broker.config.lease / 4))
        is_refused = any(one.wait_refused for one in self._subscriptions)
        if resting or self._pauses.by_operator or is_refused:
            # A full server refuses BLMOVE, and a paused queue would only fill its `wake`: poll.
            self._switch.event.wait(min(block, 0.5 if self._pauses.by_operator else 0.1))
            for one in self._subscriptions:
                one.wait_refused = None
        elif self._waiters is not None:
            self._waiters.wait(block)
        else:
            self._block = block

    def _on_outcome(self, one: Subscription, outcome: Outcome, took: float) -> None:
        with self._lock:
            self.tally.count(outcome)
            self._pace.note(took / self.concurrency)
        if self._pauses.note(one.queue, outcome, took):
            one.give_up_ready()

    def _may_start(self) -> bool:
        limit = self.limits.max_messages
        if self._keeper.error is not None or self._switch.requested:
            return False
        is_late = time.monotonic() >= self._until
        return not is_late and (limit == 0 or self.tally.total + self._runner.running < limit)
