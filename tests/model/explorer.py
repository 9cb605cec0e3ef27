"""Every history of a small world: three messages, two consumers, and what goes wrong.

The scripts run on a real server, and the consumers are the package's own. Two histories that end in
the same contents and knowledge are one state. ``python -m tests.model.explorer --depth N --seconds
S`` looks further than the tests do, ``--world late`` or ``forgetful`` into other worlds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flask_redis_queue.protocol import SendRequest

from ..servers import RealServer
from . import inside
from .actor import Actors, Fault, Local
from .numbers import Numbers, numbered
from .rules import Rules, Violation
from .states import NAMES, Bounds, Result, State, Step, tell
from .world import KEYS, QUEUE, Command, World


class Explorer:
    """The search.

    :param world: The server.
    :param bounds: How far.
    :param numbers: What incarnations are called.
    """

    def __init__(self, world: World, bounds: Bounds, numbers: Numbers) -> None:
        self.world, self.bounds = world, bounds
        self.actors = Actors(world, bounds.forgets, numbers)
        self.rules = Rules(world, self.actors)
        world.on_new = self.rules.check_content
        self._acts: dict[tuple[int, int, int], list[tuple[Step, int, Local, Command | None]]] = {}
        self._from: dict[State, tuple[State, Step] | None] = {}
        self._trying = ""

    def run(self) -> Result:
        """Go through all of it.

        :return: What was seen.
        :raises Violation: With the shortest history that leads there.
        """
        started = time.monotonic()
        start = self._start()
        self._from[start] = None
        frontier, transitions, depth, drained = [start], 0, 0, 0
        until = started + self.bounds.seconds if self.bounds.seconds else float("inf")
        while frontier and depth < self.bounds.depth and time.monotonic() < until:
            following: list[State] = []
            for state in frontier:
                if time.monotonic() >= until:
                    break
                for step, after in self._guarded(state):
                    transitions += 1
                    if after not in self._from:
                        self._from[after] = (state, step)
                        following.append(after)
                        drained += self._look(after)
            frontier, depth = following, depth + bool(following)
        seconds = time.monotonic() - started
        contents = len(self.world.contents)
        return Result(len(self._from), transitions, depth, seconds, contents, drained)

    def _start(self) -> State:
        content = self.world.empty
        for name in ("m1", "m2"):
            content = self._send(content, name, None)[0]
        nobody = self.actors.absent(0, frozenset())
        before = content if self.bounds.forgets else -1
        return State(content, (nobody, nobody), before=before)

    def _send(self, content: int, name: str, fault: Fault | None) -> tuple[int, bool]:
        request = SendRequest(QUEUE, name, "token", 60_000, name, [name.encode()])
        self.actors.wire.begin(content, fault)
        try:
            self.actors.broker.send(request)
        except Exception:
            if fault is None:
                raise
            return self.actors.wire.content, False
        return self.actors.wire.content, True

    def _guarded(self, state: State) -> Iterator[tuple[Step, State]]:
        try:
            yield from self._after(state)
        except Violation as violation:
            violation.history = [*self._history(state), f"{self._trying} (or what came next)"]
            raise

    def _look(self, state: State) -> int:
        try:
            return self.rules.check_state(len(self._from), state.content, state.locals)
        except Violation as violation:
            violation.history = self._history(state)
            raise

    def _history(self, state: State) -> list[str]:
        steps: list[str] = []
        at = self._from[state]
        while at is not None:
            state, step = at
            steps.append(tell(step))
            at = self._from[state]
        return steps[::-1]

    # What can happen ---------------------------------------------------------------------------

    def _after(self, state: State) -> Iterator[tuple[Step, State]]:
        for index, name in enumerate(NAMES):
            for step, content, local, late in self._steps(state, index, name):
                pair = (local, state.locals[1]) if index == 0 else (state.locals[0], local)
                if late is None:
                    yield step, self._changed(state, content, locals=pair)
                elif state.late is None:
                    yield step, self._changed(state, content, locals=pair, late=late)
        view = self.world.view(state.content)
        for name, mark in view.leases.items():
            bury = self._bury(state.content, name)
            self.rules.check_bury(state.content, name, bury)
            yield ("somebody", f"buries {name}", None), self._changed(state, bury)
            if mark == b"later":
                lapsed = self.world.edit(
                    state.content,
                    KEYS.leases,
                    lambda m, s, n=name: b"past" if m == n.encode() else s,
                )
                yield (name, "lease ends", None), self._changed(state, lapsed)
        if view.later:
            due = self.world.edit(state.content, KEYS.delayed, lambda _, __: b"past")
            yield ("time", "comes", None), self._changed(state, due)
        if view.ready:
            command = ("BLMOVE", KEYS.queue, KEYS.wake, "RIGHT", "LEFT", "0.010")
            woken, _ = self.world.apply(state.content, command)
            yield ("a waiter", "wakes", None), self._changed(state, woken)
        yield from self._others(state)

    def _others(self, state: State) -> Iterator[tuple[Step, State]]:
        if state.sender != "done":
            for fault in (None, Fault("request lost", 0), Fault("reply lost", 0)):
                content, sure = self._send(state.content, "m3", fault)
                sender = "done" if sure else "doubtful"
                yield ("sender", "sends", fault), self._changed(state, content, sender=sender)
        if state.late is not None:
            content, _ = self.world.apply(state.content, state.late)
            self.rules.check_late(state.content, content, state.locals)
            yield ("late request", "arrives", None), self._changed(state, content, late=None)
        if state.before not in (-1, state.content):
            yield (
                ("server", "forgets", None),
                state._replace(content=state.before, before=-1),
            )

    def _changed(self, state: State, content: int, **fields: object) -> State:
        before = state.before
        if before != -1 and content != state.content:
            before = state.content
        return state._replace(content=content, before=before, **fields)  # type: ignore[arg-type]

    def _bury(self, content: int, name: str) -> int:
        self.actors.wire.begin(content, None)
        self.actors.broker.bury(QUEUE, name)
        return self.actors.wire.content

    # What one consumer can do ------------------------------------------------------------------

    def _steps(
        self, state: State, index: int, name: str
    ) -> list[tuple[Step, int, Local, Command | None]]:
        local = state.locals[index]
        key = (state.content, index, id(local))
        found = self._acts.get(key)
        if found is None:
            found = self._acts[key] = list(self._try(state.content, name, local))
        return found

    def _try(
        self, content: int, name: str, local: Local
    ) -> Iterator[tuple[Step, int, Local, Command | None]]:
        for action in self._actions(local):
            self._trying = tell((name, action, None))
            after, knows = self.actors.act(content, name, local, action, None)
            self.rules.check_step(content, after, local, knows)
            self.rules.check_clock(content, after, local, action)
            yield (name, action, None), after, knows, None
            requests = (
                0 if action in ("crash", "beat") or "dies" in action else self.actors.wire.requests
            )
            kinds = ["request lost", "reply lost", *(["late"] if self.bounds.late else [])]
            for fault in (Fault(kind, at) for at in range(requests) for kind in kinds):
                self._trying = tell((name, action, fault))
                after, knows = self.actors.act(content, name, local, action, fault)
                self.rules.check_step(content, after, local, knows)
                yield (name, action, fault), after, knows, self.actors.wire.late

    def _actions(self, local: Local) -> Iterator[str]:
        one = local.one
        if one is not None:
            yield "crash"
        if one is None or not one.is_entered:
            if local.number < self.bounds.incarnations or (
                one is not None and inside.entering(one)
            ):
                yield "enter"
            return
        if inside.seq(one) < self.bounds.turns:
            yield "turn 1"
            if inside.pending(one) is None:  # else the first request is repeated, whatever is asked
                yield "turn 2"
        yield "dies, and its supervisor says so"
        yield "beat"
        yield "leave"
        if local.running:
            yield from ("finish ack", "finish retry", "finish dead")
            if inside.ready(one):
                yield "give"


def explore(server: RealServer, bounds: Bounds) -> Result:
    """Go through a world on a server that nothing else uses.

    :return: What was seen.
    """
    client = server.client()
    link = client.connection_pool.get_connection()
    try:
        with numbered() as numbers:
            return Explorer(World(link), bounds, numbers).run()
    finally:
        client.connection_pool.release(link)
        client.close()


def main() -> int:
    """Explore from the command line.

    :return: 1 if a rule was broken.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--incarnations", type=int, default=2)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--world", choices=["plain", "late", "forgetful"], default="plain")
    given = parser.parse_args()
    late, forgets = given.world == "late", given.world == "forgetful"
    bounds = Bounds(given.depth, given.seconds, given.incarnations, given.turns, late, forgets)
    with tempfile.TemporaryDirectory() as folder:
        server = RealServer(Path(folder), appendonly="no")
        server.start()
        try:
            print(explore(server, bounds))
        except Violation as violation:
            print(violation)
            return 1
        finally:
            server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
