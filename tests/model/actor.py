"""One consumer of the explorer: the real ``Subscription``, to copy, over a wire that fails."""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from typing import Any, NamedTuple

import redis

from flask_redis_queue.broker import Broker
from flask_redis_queue.config import load
from flask_redis_queue.envelope import Delivery
from flask_redis_queue.holdings import Holdings
from flask_redis_queue.outcomes import Ack, DeadLetter, Outcome, RetryLater
from flask_redis_queue.protocol import Settlement, TurnRequest
from flask_redis_queue.subscription import Gone, Subscription

from . import inside
from .numbers import Numbers
from .world import LEASE, QUEUE, RETRY_SECONDS, Command, World


def outcome_of(what: str, name: str) -> Outcome:
    """:return: What becomes of the message of this name, which stands where a message would."""
    message: Any = name
    if what == "ack":
        return Ack(message)
    if what == "retry":
        return RetryLater(message, RETRY_SECONDS)
    return DeadLetter(message, "rejected", "in a test")


class Fault(NamedTuple):
    """One request of an action that goes wrong.

    :param kind: ``request lost``, ``reply lost``, or ``late``: it arrives after all, some time.
    :param at: Which request of the action.
    """

    kind: str
    at: int


class Wire:
    """A pool of connections to a world, in which one request may fail.

    :param world: Where requests go.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.content = 0
        self.fault: Fault | None = None
        self.requests = 0
        self.late: Command | None = None
        self._reply: Any = None

    def begin(self, content: int, fault: Fault | None) -> None:
        """Start an action from a content of the server."""
        self.content, self.fault, self.requests, self.late = content, fault, 0, None

    def get_connection(self, *_: Any) -> Wire:
        """:return: Itself: there is one connection."""
        return self

    def release(self, _: Any) -> None:
        """Nothing is to be given back."""

    def disconnect(self) -> None:
        """Nothing is to be closed."""

    def send_command(self, *command: Any) -> None:
        """Carry out one request, unless it is the one that is lost."""
        kind = self.fault.kind if self.fault and self.fault.at == self.requests else ""
        self.requests += 1
        if kind in ("request lost", "late"):
            self.late = command if kind == "late" else None
            self._reply = redis.ConnectionError(kind)
            return
        self.content, self._reply = self.world.apply(self.content, command)
        if kind:
            self._reply = redis.ConnectionError(kind)

    def read_response(self) -> Any:
        """:return: The reply, unless it is lost."""
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply


class Local(NamedTuple):
    """What one consumer knows; equal where nothing can tell the difference.

    :param key: All that its future depends on.
    :param one: Its subscription; ``None``: the process is not there.
    :param number: How many incarnations it had.
    :param acked: Consumer, tag and message of what it handled, as far as the server may still ask.
    """

    key: tuple[Any, ...]
    one: Subscription | None
    number: int
    acked: frozenset[tuple[str, str, str]]

    @property
    def is_entered(self) -> bool:
        """:return: Whether it has an incarnation."""
        return self.one is not None and self.one.is_entered

    @property
    def running(self) -> list[Any]:
        """:return: What its handler has."""
        return [] if self.one is None else inside.running(self.one)

    def known(self) -> dict[str, str]:
        """:return: What it believes to hold: names of messages by their tags."""
        if self.one is None or not self.is_entered:
            return {}
        return {d.tag: d.raw.decode() for d in (*inside.ready(self.one), *inside.running(self.one))}


_PLAIN = frozenset({str, int, bool, bytes, type(None), Delivery})
_LISTS = frozenset({list, tuple, deque})
_RECORDS = {
    kind: tuple(field.name for field in dataclasses.fields(kind))
    for kind in (Settlement, TurnRequest, Ack, DeadLetter, RetryLater)
}


def freeze(value: Any) -> Any:
    """:return: A value to compare, without times, locks and connections."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in _LISTS:
        return tuple([freeze(one) for one in value])
    if kind is dict:
        return tuple([(key, freeze(one)) for key, one in value.items()])
    if kind is Holdings:
        return freeze(vars(value))
    if kind in _RECORDS:
        return (kind.__name__, *[freeze(getattr(value, name)) for name in _RECORDS[kind]])
    return None


def clone(value: Any) -> Any:
    """:return: A copy of a subscription that shares nothing which changes."""
    kind = type(value)
    if kind in (Subscription, Holdings):
        other = copy.copy(value)
        for name, part in vars(value).items():
            setattr(other, name, clone(part))
        return other
    if kind in (deque, list, dict):
        return copy.copy(value)
    if kind is Settlement:
        return Settlement(*(list(getattr(value, name)) for name in _RECORDS[kind]))
    return value


def make_broker(wire: Any, **settings: Any) -> Broker:
    """:return: A broker whose requests go over this wire."""
    settings = {"REDIS_URL": "redis://nowhere", "REDIS_QUEUE_LEASE": LEASE, **settings}
    return Broker(wire, load(settings, {}))


class Actors:
    """Consumers, and what they can do.

    :param world: The server.
    :param keep_acked: The server may forget, so that old acknowledgements count again.
    :param numbers: What incarnations are called.
    """

    def __init__(self, world: World, keep_acked: bool, numbers: Numbers) -> None:
        self.world = world
        self.numbers = numbers
        self.wire = Wire(world)
        self.broker = make_broker(self.wire, REDIS_QUEUE_MAX_DELIVERIES=2)
        self._keep_acked = keep_acked
        self._locals: dict[tuple[Any, ...], Local] = {}

    def absent(self, number: int, acked: frozenset[tuple[str, str, str]]) -> Local:
        """:return: A consumer whose process is not there."""
        return self._same(None, number, acked)

    def act(
        self, content: int, name: str, local: Local, action: str, fault: Fault | None
    ) -> tuple[int, Local]:
        """Let one consumer do something.

        :param content: What the server holds.
        :param name: The consumer's name.
        :param local: What it knows.
        :param action: What it does.
        :param fault: What goes wrong.
        :return: What the server holds then, and what the consumer knows.
        """
        number, acked = local.number, local.acked
        if action == "crash":
            return content, self.absent(number, acked)
        self.wire.begin(content, fault)
        if action == "dies, and its supervisor says so" and local.one is not None:
            seen = inside.report(local.one)
            self.broker.bury(QUEUE, local.one.consumer, known=True, last_seen=seen)
            return self.wire.content, self.absent(number, acked)
        if local.one is None:
            one = Subscription(self.broker, QUEUE, name, self.broker.pool)
        else:
            one = clone(local.one)
        if action == "enter" and not inside.entering(one):
            number += 1
        self.numbers.next = number
        done = self._do(one, action)
        self._begin_next(one)
        if done is not None:
            acked |= {done}
        if not self._keep_acked:
            held = self.world.view(self.wire.content).held
            acked = frozenset(a for a in acked if a[1] in held.get(a[0], ()))
        return self.wire.content, self._same(one, number, acked)

    def _do(self, one: Subscription, action: str) -> tuple[str, str, str] | None:
        verb, _, rest = action.partition(" ")
        try:
            match verb:
                case "turn":
                    one.turn(int(rest))
                case "finish":
                    (delivery,) = inside.running(one)
                    one.finish(delivery, outcome_of(rest, delivery.raw.decode()))
                    if rest == "ack":
                        return one.consumer, delivery.tag, delivery.raw.decode()
                case "give":
                    one.give_up_ready()
                case _:
                    getattr(one, verb)()
        except Gone:
            one.abandon()
        except redis.ConnectionError:
            pass
        return None

    def _begin_next(self, one: Subscription) -> None:
        """A consumer that has something to do begins it at once: when, nobody else can see."""
        if one.is_entered and inside.ready(one) and not inside.running(one):
            one.take()

    def _same(self, one: Subscription | None, number: int, acked: Any) -> Local:
        state = None if one is None else freeze(vars(one))
        key = (state, number, tuple(sorted(acked)))
        found = self._locals.get(key)
        if found is None:
            found = self._locals[key] = Local(key, one, number, acked)
        return found
