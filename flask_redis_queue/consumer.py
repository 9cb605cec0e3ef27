"""The loop of ``flask consume``: turn, process, buffer outcomes, stop.

The life of a message here:

1. A turn settles what was done before and brings up to ``n`` deliveries (:mod:`.subscription`).
2. Each goes through the processor, which says what becomes of it (:mod:`.processor`).
3. Outcomes wait for the next turn; the lease thread settles them earlier if a handler is slow.
4. When a queue is empty, the turn waits for it inside Redis, so that waking costs one round trip.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import redis
from redis.exceptions import RedisError

from . import clients, diagnosis, signals
from .broker import Broker
from .lease import LeaseKeeper
from .outage import Outage
from .pace import Limits, Pace, Tally
from .processor import Guard, Processor
from .protocol import TurnReply
from .stopping import StopSwitch
from .subscription import Gone, Subscription
from .waiting import Waiters

_logger = logging.getLogger("flask_redis_queue")

_GOODBYE = 2.0
"""Seconds that a consumer tries to say that it ends; else its lease tells."""
_BLOCK = 0.5
"""Longest wait inside Redis: what is due or handed back does not wake the waiter."""


class Consumer:
    """One consumer: one thread that runs handlers, over one or several queues.

    :param broker: The app's queues.
    :param blocking_pool: Connections that may wait inside Redis.
    :param make_processor: Makes the processor, given the guard.
    :param queues: What to read, in this order.
    :param name: What people call this consumer.
    :param limits: When to stop.
    :param stop_timeout: Seconds that a running handler gets after a stop was asked for.
    :param sender: The app, for signals.
    :param on_ready: Called when Redis has accepted everything that a consumer does.
    :param on_stuck: Called last, when a handler cannot be interrupted.
    """

    def __init__(
        self,
        broker: Broker,
        blocking_pool: redis.ConnectionPool,
        make_processor: Callable[[Guard], Processor],
        queues: Sequence[str],
        name: str,
        limits: Limits,
        stop_timeout: float,
        sender: object,
        on_ready: Callable[[], None] = lambda: None,
        on_stuck: Callable[[], None] = lambda: None,
    ) -> None:
        guard = Guard()
        self.name = name
        self.queues = list(queues)
        self.tally = Tally()
        self._broker = broker
        self._blocking_pool = blocking_pool
        self._processor = make_processor(guard)
        self.limits = limits
        self._sender = sender
        self._on_ready = on_ready
        self._on_stuck = on_stuck
        self._outage = Outage(broker.config)
        self._switch = StopSwitch(stop_timeout, guard, self._stuck)
        self._subscriptions = [Subscription(broker, q, name, blocking_pool) for q in self.queues]
        self._keeper = LeaseKeeper(broker, self._subscriptions, self._outage, self._tick)
        self._waiters: Waiters | None = None
        self._until = float("inf")
        self._pace = Pace(broker.config.prefetch)
        self._paused: set[str] = set()
        self._block = 0.0
        self._started = False

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
            self._start()
        except (diagnosis.NotSent, RedisError) as error:
            raise diagnosis.refused(error, self._broker.config) from error
        finally:
            self._leave()

    # Start and end -----------------------------------------------------------------------------

    def _start(self) -> None:
        """Do once all that a consumer does, so that "ready" is true when it is said."""
        for one in self._subscriptions:
            asked = time.monotonic()
            if not one.is_entered:
                one.enter()
            one.turn(0)
            self._outage.end(asked)
            one.beat()
            try:
                self._broker.try_wait(self._blocking_pool, one.queue)
            except redis.ResponseError as error:
                if not diagnosis.is_full(error):
                    raise
        self._started = True

    def _open(self) -> None:
        """Say that it is ready, and start the threads."""
        self._keeper.start()
        if len(self._subscriptions) > 1:
            self._waiters = Waiters(self._broker, self._blocking_pool, self.queues)
        self._on_ready()
        signals.emit(signals.consumer_started, self._sender, consumer=self.name)

    def _end(self) -> None:
        self._keeper.stop()
        if self._waiters is not None:
            self._waiters.close()
        self._leave()
        self._processor.close()
        signals.emit(signals.consumer_stopped, self._sender, consumer=self.name)

    def _leave(self) -> None:
        for one in self._subscriptions:
            try:
                if one.is_entered:
                    clients.repeat(one.leave, time.monotonic() + _GOODBYE)
            except Gone:
                self._lost(one)
            except (diagnosis.NotSent, RedisError):
                _logger.warning(
                    "%s: could not tell Redis that this consumer ends; what it holds is handed "
                    "on when its lease lapses, in %gs",
                    one.queue,
                    self._broker.config.lease,
                )

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
        if time.monotonic() >= self._until:
            self._switch.request()
        self._switch.tick()

    def _stuck(self) -> None:
        for one in self._subscriptions:
            try:
                self.tally.handed_back += one.hand_back_all()
                one.leave()
            except (Gone, diagnosis.NotSent, RedisError):
                _logger.warning("%s: its messages are handed on when the lease lapses", one.queue)
        self._on_stuck()

    # One round ---------------------------------------------------------------------------------

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do it; wait where Redis is away."""
        try:
            work()
        except (diagnosis.NotSent, RedisError) as error:
            if diagnosis.kind(error) != "away":
                raise
            self._switch.event.wait(self._outage.begin(error, 0))

    def _round(self) -> None:
        """Run what the first queue that has something gives; if none has, wait."""
        due, empty = _BLOCK, True
        limit = self.limits.max_messages
        left = limit - self.tally.total if limit else None
        for one in self._subscriptions:
            try:
                asked = time.monotonic()
                reply = one.turn(self._pace.appetite(left), block=self._block)
                self._outage.end(asked)
                self._note_pause(one, reply)
                if one.has_ready:
                    self._block = 0.0
                    self._run_batch(one)
                    return
            except Gone:
                self._lost(one)
                one.enter()
                return
            if reply.due_ms >= 0:
                due = min(due, reply.due_ms / 1000)
            empty = empty and (reply.waiting == 0 or bool(reply.paused)) and reply.due_ms != 0
        self._block = 0.0
        if empty and self.limits.burst:
            self._switch.event.set()
        elif empty:
            self._wait(due)

    def _wait(self, due: float) -> None:
        block = max(0.001, min(due, self._broker.config.lease / 4))
        if self._paused or any(one.wait_refused for one in self._subscriptions):
            # A full server refuses BLMOVE, and a paused queue would only fill its `wake`: poll.
            self._switch.event.wait(min(block, 0.5 if self._paused else 0.1))
            for one in self._subscriptions:
                one.wait_refused = None
        elif self._waiters is not None:
            self._waiters.wait(block)
        else:
            self._block = block

    def _run_batch(self, one: Subscription) -> None:
        self._keeper.busy(True)
        started, before = time.monotonic(), self.tally.total
        try:
            while not self._is_over():
                delivery = one.take()
                if delivery is None:
                    if not (one.has_ready and one.is_entered):
                        break
                    one.turn(0)  # the lease is old: no handler starts before it is renewed
                    continue
                outcome = self._processor.process(delivery, one.now)
                one.finish(delivery, outcome)
                self.tally.count(outcome)
        finally:
            self._keeper.busy(False)
        if one.has_ready:
            one.give_up_ready()
        self._pace.note(self.tally.total - before, time.monotonic() - started)

    # What to say -------------------------------------------------------------------------------

    def _note_pause(self, one: Subscription, reply: TurnReply) -> None:
        if reply.paused and one.queue not in self._paused:
            self._paused.add(one.queue)
            _logger.warning("%s is paused: %s", one.queue, reply.paused)
        elif not reply.paused and one.queue in self._paused:
            self._paused.discard(one.queue)
            _logger.warning("%s goes on", one.queue)

    def _lost(self, one: Subscription) -> None:
        lost, waiting = one.abandon()
        _logger.warning(
            "%s: this consumer was taken for dead after %gs of silence, or Redis forgot it; "
            "%d handled but not settled and %d not started go to others. Entering anew.",
            one.queue,
            self._broker.config.lease,
            len(lost),
            waiting,
        )
        for message in lost:
            signals.emit(signals.message_lost_lease, self._sender, message=message)
