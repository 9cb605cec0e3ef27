"""Invariant 1 where Redis refuses a command in the midst of a script: nothing is lost or doubled.

What a script wrote before that stays written, so each must meet the refusal before it moves
anything, or leave everything whole.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from flask_redis_queue import acl
from flask_redis_queue.diagnosis import NotSent
from flask_redis_queue.inspector import Inspector
from flask_redis_queue.protocol import SendRequest

from ..apps import QUEUE
from .test_conservation import DEAD, Places

# Redis 6.2 cannot take a subcommand away, and no script calls one.
COMMANDS = sorted(
    one for one in set().union(*(acl.commands(role) for role in acl.ROLES)) if "|" not in one
)
_OWN = f"{{{QUEUE}}}"
_OVER = ("old1", "old2", "old3", "old4")
"""Dead letters, as many as a queue may keep."""


class Scene(Places):
    """A queue with something in every place, and a user who may do everything until it may not."""

    def __init__(self, url: str) -> None:
        admin = redis.Redis.from_url(url)
        admin.flushall()
        admin.execute_command("ACL", "SETUSER", "shop", "reset", "on", ">pw", "~*", "+@all")
        limits = {"REDIS_QUEUE_DEAD_MAX": len(_OVER), "REDIS_QUEUE_MAX_DELIVERIES": 2}
        super().__init__(url.replace("redis://", "redis://shop:pw@"), **limits)
        self.client = admin
        self.may_end: set[str] = set()
        self.may_begin: set[str] = set()
        for who in ("worker", "ghost"):
            self.enter(who)
        self.send("taken1", "taken2")
        self.turn(2, "ghost")
        self.send(*_OVER)
        self.turn(0, dead=[(tag, DEAD) for tag in self.turn(4)])
        self.send(*"abcde")
        self.tags = self.turn(5)
        self.send("l", "m")
        admin.lpush(QUEUE, b'"big' + b"x" * 2000 + b'"', '"foreign"')
        admin.lmove(QUEUE, f"{_OWN}:wake", "RIGHT", "LEFT")
        self.names |= {"big", "foreign"}
        self._put("back", deaths=0)
        self._put("due", deaths=0)
        self._put("due-deadly", deaths=1)
        admin.zadd(f"{_OWN}:leases", {"ghost": 1})
        self.check()

    def _put(self, name: str, deaths: int) -> None:
        """Put a message to where it would take a while to get."""
        stored = f'{name} 0 {deaths} 1\n"{name}"'
        if name == "back":
            self.client.rpush(f"{_OWN}:back", stored)
        else:
            self.client.zadd(f"{_OWN}:delayed", {stored: 1})
        self.client.hincrby(f"{_OWN}:ledger", "sent", 1)
        self.names.add(name)

    def forbid(self, command: str) -> None:
        """Take a command away from the user."""
        self.client.execute_command("ACL", "SETUSER", "shop", f"-{command}")

    def allow_all(self) -> None:
        """Give everything back."""
        self.client.execute_command("ACL", "SETUSER", "shop", "+@all")

    def check_whole(self, command: str, begun: set[str]) -> None:
        """Each message stands in one place, but those that may have come to their end."""
        places = self.places()
        wrong = {n: places[n] for n in self.names - self.may_end if places[n] != 1}
        wrong |= {n: places[n] for n in self.may_end if places[n] > 1}
        wrong |= {n: places[n] for n in self.may_begin - begun if places[n]}
        admin = Inspector(self.client.connection_pool)
        assert ({}, 0) == (wrong, admin.status(QUEUE).missing), f"without {command}"

    # What is tried: each gives a call that may be repeated, and what it may finish.

    def settle_and_take(self) -> Callable[[], object]:
        """A turn with every outcome, that takes from every place."""
        a, b, c, d, e = self.tags
        request = self.next_turn(
            "worker",
            20,
            handled=[a],
            expired=[b],
            retried=[(c, 60_000)],
            dead=[(d, DEAD)],
            handed_back=[e],
        )
        self.may_end = {"a", "b", "old1", "old2"}
        return lambda: self.broker.turn(QUEUE, request)

    def take_the_deadly(self) -> Callable[[], object]:
        """A turn that takes what travels alone."""
        self.client.rpush(f"{_OWN}:back", 'deadly 0 1 1\n"deadly"')
        self.client.hincrby(f"{_OWN}:ledger", "sent", 1)
        self.names.add("deadly")
        self.enter("hungry")
        request = self.next_turn("hungry", 5)
        return lambda: self.broker.turn(QUEUE, request)

    def bury(self) -> Callable[[], object]:
        """A burial that puts messages back."""
        return lambda: self.broker.bury(QUEUE, "ghost")

    def bury_killers(self) -> Callable[[], object]:
        """A burial that makes dead letters, past their limit."""
        held = f"{_OWN}:held:ghost"
        for tag, stored in self.client.hgetall(held).items():
            if tag != b"#":
                self.client.hset(held, tag, stored.replace(b" 0 0 ", b" 0 1 ", 1))
        self.may_end = {"old1", "old2"}
        return lambda: self.broker.bury(QUEUE, "ghost")

    def enter_anew(self) -> Callable[[], object]:
        """The beginning of a consumer."""
        return lambda: self.broker.enter(QUEUE, "new")

    def beat(self) -> Callable[[], object]:
        """The renewal of a lease."""
        return lambda: self.broker.beat(QUEUE, "worker")

    def resync(self) -> Callable[[], object]:
        """An agreement on what is held."""
        return lambda: self.broker.resync(QUEUE, "worker", 50)

    def send_one(self) -> Callable[[], object]:
        """A message with a dedup key."""
        request = SendRequest(QUEUE, "n", "t", 60_000, "n", [b'"n"'], 0, ("key", 60_000))
        self.may_begin = {"n"}
        return lambda: self.broker.send(request)

    def send_delayed(self) -> Callable[[], object]:
        """Two messages for later."""
        request = SendRequest(QUEUE, "n", "t", 60_000, "n", [b'"n"', b'"o"'], 60_000)
        self.may_begin = {"n", "o"}
        return lambda: self.broker.send(request)

    def replay(self) -> Callable[[], object]:
        """Dead letters that go back."""
        keys = [one.key for one in self.inspector.dead_letters(QUEUE)]
        return lambda: self.inspector.replay(QUEUE, keys)

    def delete(self) -> Callable[[], object]:
        """Dead letters that go."""
        keys = [one.key for one in self.inspector.dead_letters(QUEUE)]
        self.may_end = set(_OVER)
        return lambda: self.inspector.delete(QUEUE, keys)


OPERATIONS = [
    Scene.settle_and_take,
    Scene.take_the_deadly,
    Scene.bury,
    Scene.bury_killers,
    Scene.enter_anew,
    Scene.beat,
    Scene.resync,
    Scene.send_one,
    Scene.send_delayed,
    Scene.replay,
    Scene.delete,
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
def test_invariant_1_a_refused_command_moves_nothing(
    redis_url: str, operation: Callable[[Scene], Callable[[], object]]
) -> None:
    """Whatever command is taken away, each message stays in one place, and a repeat goes on."""
    refused = []
    for command in COMMANDS:
        scene = Scene(redis_url)
        call = operation(scene)
        scene.forbid(command)
        try:
            call()
        except (redis.RedisError, NotSent) as error:
            refused.append(command)
            assert "permission" in str(error) or "can't run" in str(error)
            # A message that may not be stored is not stored, so that it may be sent again.
            scene.check_whole(command, set())
        scene.allow_all()
        call()
        scene.names |= scene.may_begin
        scene.check_whole(command, scene.may_begin)
    print(f"{operation.__name__}: refused {', '.join(refused)}")
    assert {"evalsha"} < set(refused)
