"""Every history of a small world: three messages, two consumers, and what goes wrong.

The scripts run on a real server, and the consumers are the package's own. Two histories that end in
the same contents and knowledge are one state. ``python -m tests.model.explorer --depth N --seconds
S`` looks further than the tests do, ``--world zombie`` or another of ``worlds.py`` elsewhere.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from flask_redis_queue.protocol import SendRequest

from ..servers import RealServer
from .actor import Actors, Fault, Local
from .census import Census
from .numbers import Numbers, numbered
from .rules import Rules, Violation
from .states import NAMES, Bounds, Result, State, Step, actions, tell
from .world import KEYS, QUEUE, SCRIPTS, Command, World
from .worlds import WORLDS


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
        self.census = Census(world)
        world.on_new = self.rules.check_content
        self._acts: dict[tuple[int, int, int], list[tuple[Step, int, Local, Command | None]]] = {}
        self._from: dict[State, tuple[State, Step] | None] = {}
        self._trying = ""

    def run(self, histories: Sequence[tuple[str, ...]] = ()) -> Result:
        """Go through all of it.

        :param histories: Those that must be among what is seen.
        :return: What was seen.
        :raises Violation: With the shortest history that leads there.
        """
        started = time.monotonic()
        until = started + self.bounds.seconds if self.bounds.seconds else float("inf")
        frontier, transitions, depth, drained = self._stages(), 0, 0, 0
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
        contents, counts = len(self.world.contents), self.census.counts
        missed = [" · ".join(one) for one in histories if not self._has_seen(one)]
        return Result(
            len(self._from), transitions, depth, seconds, contents, drained, counts, missed
        )

    def _stages(self) -> list[State]:
        """:return: Where the path begins, and where each of its steps leads."""
        state = self._start()
        stages = [state]
        self._from[state] = None
        for told in self.bounds.path:
            before, (step, state) = state, self._follow(state, told)
            self._from[state] = (before, step)
            self._look(state)
            stages.append(state)
        return stages

    def _follow(self, state: State, told: str) -> tuple[Step, State]:
        for step, after in self._guarded(state):
            if tell(step) == told:
                return step, after
        raise LookupError(f"{told!r} is not what can happen after {self._history(state)}")

    def _has_seen(self, history: tuple[str, ...]) -> bool:
        state = self._start()
        for told in history:
            _, state = self._follow(state, told)
            if state not in self._from:
                return False
        return True

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
        self.census.state(state.content, state.locals)
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
                elif len(state.late) < self.bounds.late:
                    both = tuple(sorted((*state.late, late), key=repr))
                    yield step, self._changed(state, content, locals=pair, late=both)
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
        for at, command in enumerate(state.late):
            content, _ = self.world.apply(state.content, command)
            self.rules.check_late(state.content, content, state.locals)
            others = (*state.late[:at], *state.late[at + 1 :])
            told = f"late {SCRIPTS[command[1]]}"
            yield (told, "arrives", None), self._changed(state, content, late=others)
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
        for action in actions(local, self.bounds):
            self._trying = tell((name, action, None))
            after, knows = self.actors.act(content, name, local, action, None)
            self.rules.check_step(content, after, local, knows)
            self.rules.check_clock(content, after, local, action)
            self.census.act(name, content, local, action, None, knows)
            yield (name, action, None), after, knows, None
            requests = (
                0 if action in ("crash", "beat") or "dies" in action else self.actors.wire.requests
            )
            kinds = ["request lost", "reply lost", *(["late"] if self.bounds.late else [])]
            for fault in (Fault(kind, at) for at in range(requests) for kind in kinds):
                self._trying = tell((name, action, fault))
                after, knows = self.actors.act(content, name, local, action, fault)
                self.rules.check_step(content, after, local, knows)
                self.census.act(name, content, local, action, fault, knows)
                yield (name, action, fault), after, knows, self.actors.wire.late


def explore(
    server: RealServer, bounds: Bounds, histories: Sequence[tuple[str, ...]] = ()
) -> Result:
    """Go through a world on a server that nothing else uses.

    :return: What was seen.
    """
    client = server.client()
    link = client.connection_pool.get_connection()
    try:
        with numbered() as numbers:
            return Explorer(World(link), bounds, numbers).run(histories)
    finally:
        client.connection_pool.release(link)
        client.close()


def main() -> int:
    """Explore from the command line.

    :return: 1 if a rule was broken.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=WORLDS, default="plain")
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--incarnations", type=int, default=2)
    parser.add_argument("--turns", type=int, default=4)
    given = parser.parse_args()
    bounds = WORLDS[given.world].bounds._replace(
        depth=given.depth,
        seconds=given.seconds,
        incarnations=given.incarnations,
        turns=given.turns,
    )
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
