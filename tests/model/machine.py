"""A hypothesis state machine over the real scripts: random histories, compared with a reference.

Each request goes through the package's own ``Broker`` and ``Subscription`` to a server, and may be
lost, lose its reply or arrive late. After each step everything in the server is compared.
``HYPOTHESIS_SECONDS=600 pytest -o faulthandler_timeout=0 tests/model/test_state_machine.py`` looks
for so long, with new histories each time, and makes a red one short; ``--hypothesis-seed=N``
repeats such a search, ``HYPOTHESIS_SHRINK=1`` makes the red one of the usual run short.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flask_redis_queue.board import Report
from flask_redis_queue.broker import Broker
from flask_redis_queue.config import load
from flask_redis_queue.inspector import Inspector
from flask_redis_queue.keys import QueueKeys
from flask_redis_queue.protocol import SendRequest
from flask_redis_queue.subscription import Subscription

from . import inside
from .lines import FAULTS, FaultyPool, agree
from .reference import Reference, name_of
from .stored import Stored, read

QUEUE = "q"
KEYS = QueueKeys(QUEUE)
HOURS = 36_000
SETTINGS = {
    "REDIS_URL": "redis://nowhere",
    "REDIS_QUEUE_LEASE": "1h",
    "REDIS_QUEUE_MAX_DELIVERIES": 3,
    "REDIS_QUEUE_MAX_BYTES": 1024,
    "REDIS_QUEUE_MAX_LENGTH": 40,
}
faults = st.tuples(st.sampled_from(["", "", "", *FAULTS]), st.integers(0, 1))


class Machine(RuleBasedStateMachine):
    """What must hold, and those who send.

    :param client: A client of an empty server that nothing else uses.
    """

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.client = client
        client.flushall()
        client.script_flush()  # each history begins alike, also in what the server knows
        config = load(SETTINGS, {})
        self.lines = FaultyPool(client.connection_pool, self.arrived)
        self.broker = Broker(self.lines, config)  # type: ignore[arg-type]
        self.inspector = Inspector(self.lines)  # type: ignore[arg-type]
        self.reference = Reference()
        self.places: list[Subscription | None] = [None, None, None]
        self.doubtful: list[SendRequest] = []
        self.accepted: list[SendRequest] = []
        self.ran: defaultdict[str, set[str]] = defaultdict(set)
        self.numbers = 0
        self.reports: dict[str, Report] = {}
        self.stored = Stored({})
        self.remembered = (self.stored, self.reference)
        self.may_forget = False

    def arrived(self, script: str, keys: list[str], args: list[Any], reply: Any) -> None:
        """The server has carried out a command: its reply must be the one that is expected."""
        if script == "move":
            self.reference.move()
        elif script != "snapshot":
            gone = script in ("turn", "beat", "resync") and args[0] in self.reference.ended
            expected = self.reference.carry_out(script, keys, args)
            assert not gone or "gone" == reply[0].decode(), f"{args[0]} was buried"
            agree(script, expected, reply)

    # What must hold ----------------------------------------------------------------------------

    @invariant()
    def everything_is_where_it_should_be(self) -> None:
        """Conservation, the ledger, fencing and order; the server holds what the reference does."""
        self.stored = read(self.client, KEYS)
        self.stored.compare(self.reference)
        status = self.inspector.status(QUEUE)
        assert 0 == status.missing
        assert sum(len(one.items) for one in self.reference.held.values()) == status.held
        reference = self.reference
        twice = [fate for fate, times in reference.fates.items() if times != 1]
        assert [] == twice, "counted twice"
        assert reference.first_taken == reference.listed[: len(reference.first_taken)]
        for name, what in reference.fates:
            assert what in self.ran[name] or what in ("purged", "foreign_out"), f"{name}: {what}"

    @invariant()
    def tags_name_the_same_message(self) -> None:
        """What a consumer holds under a tag is what the server holds under it."""
        for one in filter(None, self.places):
            holder = self.reference.held.get(one.consumer)
            for delivery in (*inside.ready(one), *inside.running(one)):
                item = holder.items.get(delivery.tag) if holder else None
                assert item is None or item.name == name_of(delivery.raw)

    # Senders -----------------------------------------------------------------------------------

    def names(self, count: int) -> list[str]:
        """:return: New names of messages."""
        self.numbers += count
        return [f"m{self.numbers - left}" for left in range(count)]

    def send(self, request: SendRequest, fault: tuple[str, int]) -> str:
        """Send; what has no answer is to be repeated."""
        self.lines.fail(*fault)
        try:
            status, _ = self.broker.send(request)
        except redis.ConnectionError:
            self.doubtful.append(request)
            return "doubtful"
        finally:
            self.lines.fail("", 0)
        self.accepted.append(request)
        return status

    @rule(count=st.integers(1, 3), delayed=st.booleans(), dedup=st.booleans(), fault=faults)
    def a_service_sends(
        self, count: int, delayed: bool, dedup: bool, fault: tuple[str, int]
    ) -> None:
        """One message or many, now or later, perhaps with a ``dedup=`` key."""
        self.may_forget = False
        names = self.names(count)
        delay = HOURS * 1000 if delayed and count < 3 else 0
        window = ("key", HOURS * 1000) if dedup and count == 1 else None
        bodies = [name.encode() for name in names]
        token = f"t{names[0]}"
        self.send(
            SendRequest(QUEUE, names[0], token, 60_000, names[0], bodies, delay, window), fault
        )

    @precondition(lambda self: self.doubtful)
    @rule(fault=faults)
    def it_repeats_a_request(self, fault: tuple[str, int]) -> None:
        """The same request again, because no answer came."""
        self.may_forget = False
        self.send(self.doubtful.pop(0), fault)

    @precondition(lambda self: self.accepted)
    @rule()
    def it_sends_an_old_id_again(self) -> None:
        """Another call with the id of an earlier one stores nothing."""
        old = self.accepted[-1]
        before = len(self.accepted)
        known = KEYS.seen(old.request) in self.reference.seen
        again = SendRequest(QUEUE, old.request, "other", 60_000, old.first_id, old.bodies)
        if known:
            assert "seen" == self.send(again, ("", 0))
        del self.accepted[before:]

    @rule(is_large=st.booleans())
    def an_old_program_pushes(self, is_large: bool) -> None:
        """LPUSH, of a message that may be too large."""
        self.may_forget = False
        (name,) = self.names(1)
        if is_large:
            self.reference.large.add(name)
        self.client.lpush(QUEUE, name + " " * (2000 if is_large else 0))
        self.reference.push(name)

    @precondition(lambda self: self.reference.queue)
    @rule()
    def an_old_program_pops(self) -> None:
        """RPOP, past all counters."""
        self.may_forget = False
        assert self.reference.queue[-1] == name_of(self.client.rpop(QUEUE))
        self.reference.pop()
