"""What happens to a queue from outside: time, operators, and a server that forgets."""

from __future__ import annotations

import copy

import redis
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from flask_redis_queue.subscription import Gone, Subscription

from . import inside
from .consumers import OUTCOMES, Consumers
from .machine import HOURS, KEYS, QUEUE
from .reference import item_of
from .stored import read


class History(Consumers):
    """The whole machine, and how each of its histories ends.

    :param client: A client of an empty server that nothing else uses.
    """

    # Time --------------------------------------------------------------------------------------

    @precondition(lambda self: self.reference.leases)
    @rule(which=st.integers(0, 5), everybody=st.booleans())
    def leases_end(self, which: int, everybody: bool) -> None:
        """One consumer was silent for too long; or the clock jumps, and all were."""
        self.may_forget = False
        names = sorted(self.reference.leases)
        for name in names if everybody else [names[which % len(names)]]:
            self.client.zadd(KEYS.leases, {name: 1})
            self.reference.leases[name] = True

    @precondition(lambda self: self.reference.delayed)
    @rule()
    def what_is_delayed_is_due(self) -> None:
        """The time of all that is delayed comes, in its order."""
        self.may_forget = False
        # Ranked as the reference has them: how many fell into one ms must not change a history.
        order = [item for item, _ in self.reference.delayed]
        members = self.client.zrange(KEYS.delayed, 0, -1)
        scores = {member: order.index(item_of(member)) for member in members}
        self.client.zadd(KEYS.delayed, scores)
        self.reference.delayed = [(item, True) for item in order]

    @precondition(lambda self: self.reference.queue)  # else it would really wait
    @rule()
    def a_waiter_wakes(self) -> None:
        """BLMOVE of a consumer that sleeps, or did until it died."""
        self.may_forget = False
        assert self.broker.wait(self.broker.pool, QUEUE, 0.01)

    # Others ------------------------------------------------------------------------------------

    @precondition(lambda self: self.reference.leases)
    @rule(which=st.integers(0, 5))
    def somebody_buries(self, which: int) -> None:
        """Whose lease has ended ends; who lives is left alone."""
        self.may_forget = False
        names = sorted(self.reference.leases)
        name = names[which % len(names)]
        lapsed = self.reference.leases[name]
        assert lapsed == self.broker.bury(QUEUE, name)[0]
        if lapsed:  # a repeat of it finds nothing to do
            assert (False, 0, 0) == self.broker.bury(QUEUE, name, known=True)

    @precondition(lambda self: self.crashed())
    @rule(exactly=st.booleans())
    def a_supervisor_buries(self, exactly: bool) -> None:
        """Somebody knows that a process has ended, and perhaps what it was doing."""
        self.may_forget = False
        name = self.crashed()[0]
        seen = self.reports.get(name) if exactly else None
        assert self.broker.bury(QUEUE, name, known=True, last_seen=seen)[0]

    def crashed(self) -> list[str]:
        """:return: Incarnations in the server that no process has."""
        known = {n for one in self.places if one for n in (one.consumer, inside.entering(one))}
        return sorted(set(self.reference.leases) - known)

    @rule()
    def an_operator_pauses_or_resumes(self) -> None:
        """The key that says why nothing is taken."""
        self.may_forget = False
        if self.reference.paused:
            self.client.delete(KEYS.paused)
        else:
            self.client.set(KEYS.paused, "a test")
        self.reference.paused = "" if self.reference.paused else "a test"

    @precondition(lambda self: self.reference.dead)
    @rule(which=st.integers(0, 5), replay=st.booleans())
    def an_operator_looks_at_dead_letters(self, which: int, replay: bool) -> None:
        """One comes back, or is deleted; a repeat finds it no more."""
        self.may_forget = False
        letters = sorted(one.key for one in self.inspector.dead_letters(QUEUE))
        key = letters[which % len(letters)]
        do = self.inspector.replay if replay else self.inspector.delete
        assert 1 == do(QUEUE, [key])
        assert 0 == do(QUEUE, [key])

    # The server --------------------------------------------------------------------------------

    @rule()
    def the_server_forgets_its_scripts(self) -> None:
        """SCRIPT FLUSH: what is sent by digest goes again by its text."""
        self.client.script_flush()

    @precondition(lambda self: self.may_forget)
    @rule()
    def the_server_forgets_the_last_turn(self) -> None:
        """It restarts from a file that ends before the turn that was the last change."""
        stored, reference = self.remembered
        stored.write_back(self.client)
        self.reference = copy.deepcopy(reference)
        self.may_forget = False

    @precondition(lambda self: self.lines.late)
    @rule()
    def what_was_late_arrives(self) -> None:
        """A request that its sender took for lost."""
        self.may_forget = False
        self.lines.arrive()

    # The end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everything comes to its end: handled or dead as it should be, and nothing is left."""
        try:
            self._everybody_ends()
            self._drain()
            self._compare_the_end()
        finally:
            self.client.flushall()

    def _everybody_ends(self) -> None:
        while self.doubtful:
            self.send(self.doubtful.pop(0), ("", 0))
        if self.lines.late:
            self.lines.arrive()
        self.client.delete(KEYS.paused)
        self.reference.paused = ""
        for slot in [slot for slot in self.entered() if slot < 2]:  # the third is taken for dead
            self._goes_on(slot)
            while slot in self.entered():
                self.attempt(slot, ("", 0), Subscription.leave)
                self.handle(slot, OUTCOMES[0])
        self.places = [None, None, None]
        for name in self.crashed():
            self.broker.bury(QUEUE, name, known=True)

    def _goes_on(self, slot: int) -> None:
        """Who lives comes to an end with all that it holds, without being taken for dead."""
        for _ in range(4):  # repeat what was lost, resync, settle, and once more for a killer
            if slot not in self.entered():
                return
            while self.handle(slot, OUTCOMES[0]):
                pass
            self.turn(slot, 0, False, ("", 0))
        if slot in self.entered():
            one = self.places[slot]
            assert one is not None
            assert {} == self.reference.held[one.consumer].items, "stuck"

    def _drain(self) -> None:
        one = Subscription(self.broker, QUEUE, "last", self.broker.pool)
        one.enter()
        self.places = [one, None, None]
        idle = 0
        while idle < 2:
            if self.reference.delayed:
                self.what_is_delayed_is_due()
            reply = one.turn(7)
            idle = 0 if reply.deliveries else idle + 1
            while self.handle(0, OUTCOMES[0]):
                pass
        one.leave()
        self.everything_is_where_it_should_be()
        try:
            one.turn(1)
        except Gone:
            return
        raise AssertionError("it has left, and takes a turn")

    def _compare_the_end(self) -> None:
        fates = {name for name, _ in self.reference.fates}
        dead = {item.name for item in self.reference.dead.values()}
        sent = {body.decode() for one in self.accepted for body in one.bodies}
        assert set() == (fates & dead)
        stored = set(self.reference.listed) | fates | dead
        assert stored == fates | dead, "neither handled nor dead"
        refused = sent - stored  # a full queue, and a dedup key that is taken, store nothing
        assert refused == sent & self.reference.refused
        self.inspector.delete(QUEUE, list(self.reference.dead))
        left = read(self.client, KEYS).keys
        lasting = {key for key, (_, _, ttl) in left.items() if ttl < 0}
        assert lasting <= {KEYS.ledger}, "residue"
        assert all(0 < ttl <= HOURS * 1000 for _, _, ttl in left.values() if ttl >= 0)


def history_on(client: redis.Redis) -> type[History]:
    """:return: The machine for one server."""

    class OnThisServer(History):
        def __init__(self) -> None:
            super().__init__(client)

    OnThisServer.__name__ = OnThisServer.__qualname__ = "History"
    return OnThisServer
