"""What consumers do in a random history."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import cycle

import redis
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from flask_redis_queue.outcomes import Ack, DeadLetter, Expired, HandBack, Outcome, RetryLater
from flask_redis_queue.subscription import Gone, Subscription

from . import inside
from .machine import HOURS, QUEUE, Machine, faults
from .reference import name_of

OUTCOMES: list[Outcome] = [
    Ack(None),  # type: ignore[arg-type]
    Expired(None),  # type: ignore[arg-type]
    RetryLater(None, HOURS),  # type: ignore[arg-type]
    DeadLetter(None, "rejected", "in a test"),
    HandBack(),
]
_FATES = {Ack: "handled", Expired: "expired"}
_any = st.integers(0, 5)
_outcomes = st.lists(st.sampled_from([OUTCOMES[0], *OUTCOMES]), min_size=1, max_size=4)


class Consumers(Machine):
    """Three places for consumers, zombies and dead ones among them."""

    @initialize(count=st.integers(0, 3), places=st.integers(1, 2))
    def something_is_there(self, count: int, places: int) -> None:
        """Most histories begin with messages and consumers."""
        for _ in range(count):
            self.a_service_sends(3, False, False, ("", 0))
        for slot in range(places):
            self._enter(slot, ("", 0))

    def entered(self) -> list[int]:
        """:return: Places whose consumer believes to be one."""
        return [slot for slot, one in enumerate(self.places) if one is not None and one.is_entered]

    def holding(self) -> list[int]:
        """:return: Places whose consumer has something to run, gone or not."""
        places = enumerate(self.places)
        return [
            slot for slot, one in places if one is not None and (one.ready or inside.running(one))
        ]

    def attempt(
        self, slot: int, fault: tuple[str, int], do: Callable[[Subscription], object]
    ) -> None:
        """Let the consumer at a place do something that may fail."""
        one = self.places[slot]
        assert one is not None
        self.may_forget = False
        self.lines.fail(*fault)
        try:
            do(one)
        except Gone:
            one.abandon()
        except redis.ConnectionError:
            pass  # it repeats the request with its next turn
        finally:
            self.lines.fail("", 0)

    @precondition(lambda self: len(self.entered()) < 3)
    @rule(which=_any, fault=faults)
    def a_consumer_enters(self, which: int, fault: tuple[str, int]) -> None:
        """A new one, or one that was told that it is gone."""
        free = sorted({0, 1, 2} - set(self.entered()))
        self._enter(free[which % len(free)], fault)

    def _enter(self, slot: int, fault: tuple[str, int]) -> None:
        if self.places[slot] is None:
            self.places[slot] = Subscription(self.broker, QUEUE, f"c{slot}", self.broker.pool)
        self.attempt(slot, fault, Subscription.enter)

    @precondition(lambda self: self.entered())
    @rule(which=_any, n=st.integers(0, 5), block=st.booleans(), fault=faults)
    def it_takes_a_turn(self, which: int, n: int, block: bool, fault: tuple[str, int]) -> None:
        """Settle, renew, and take up to n, perhaps behind a BLMOVE."""
        self.turn(self.entered()[which % len(self.entered())], n, block, fault)

    def turn(self, slot: int, n: int, block: bool, fault: tuple[str, int]) -> None:
        """Take a turn, which the server may forget after it."""
        one = self.places[slot]
        assert one is not None
        remembered = (self.stored, copy.deepcopy(self.reference))
        wait = 0.01 if block and self.reference.queue else 0.0  # an empty queue would really wait
        self.attempt(slot, fault, lambda one: one.turn(n, block=wait))
        self.remembered, self.may_forget = remembered, not self.lines.late
        fresh = [d for d in inside.ready(one) if d.tag.startswith(f"{inside.seq(one)}-")]
        assert 1 == len(fresh) or not any(inside.must_be_alone(d) for d in fresh)

    @precondition(lambda self: self.holding())
    @rule(which=_any, outcomes=_outcomes)
    def it_handles(self, which: int, outcomes: list[Outcome]) -> None:
        """Take and finish some, zombie or not; nothing but its own memory changes."""
        slot = self.holding()[which % len(self.holding())]
        for outcome in outcomes:
            self.handle(slot, outcome)

    def handle(self, slot: int, outcome: Outcome) -> bool:
        """:return: Whether there was one to run."""
        one = self.places[slot]
        assert one is not None
        delivery = next(iter(inside.running(one)), None) or one.take()
        if delivery is None:
            return False
        self.ran[name_of(delivery.raw)].add(_FATES.get(type(outcome), ""))
        one.finish(delivery, outcome)
        return True

    @precondition(lambda self: self.entered())
    @rule(which=_any, n=st.integers(1, 5), outcomes=_outcomes, fault=faults)
    def it_does_a_round(
        self, which: int, n: int, outcomes: list[Outcome], fault: tuple[str, int]
    ) -> None:
        """Take, and handle all of it."""
        slot = self.entered()[which % len(self.entered())]
        self.turn(slot, n, False, fault)
        for outcome in cycle(outcomes):
            if not self.handle(slot, outcome):
                break

    @precondition(lambda self: self.holding())
    @rule(which=_any)
    def it_begins(self, which: int) -> None:
        """Take one, which its handler has from now on."""
        one = self.places[self.holding()[which % len(self.holding())]]
        if one is not None and not inside.running(one):
            one.take()

    @precondition(lambda self: self.entered())
    @rule(which=_any, fault=faults, how=st.sampled_from(["beat", "leave", "hand_back_all"]))
    def it_does_something_else(self, which: int, fault: tuple[str, int], how: str) -> None:
        """Beat, leave, or give up everything because the process must end."""
        slot = self.entered()[which % len(self.entered())]
        self.attempt(slot, fault, lambda one: getattr(one, how)())

    @precondition(lambda self: self.holding())
    @rule(which=_any)
    def it_gives_up_what_waits(self, which: int) -> None:
        """What was not started goes back with the next turn."""
        one = self.places[self.holding()[which % len(self.holding())]]
        if one is not None and one.is_entered:
            one.give_up_ready()

    @precondition(lambda self: self.entered())
    @rule(which=_any)
    def it_crashes(self, which: int) -> None:
        """The process is gone; the server does not know."""
        slot = self.entered()[which % len(self.entered())]
        one = self.places[slot]
        assert one is not None
        self.reports[one.consumer] = inside.report(one)
        self.places[slot] = None
