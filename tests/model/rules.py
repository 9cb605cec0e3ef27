"""What must hold in each state of the explorer, and on each step."""

from __future__ import annotations

from . import inside
from .actor import Actors, Local
from .world import KEYS, QUEUE, View, World

_EVERY = 80
"""From one state in so many it is tried that everything comes to its end."""
_BARREN = 5
"""Turns in a row that bring nothing, after which no other would.

At most four of them lie before one that does: one repeats a lost request, one resyncs, one settles
(what it retries is due only then), and one finds that due, but, where it took a consumer down, puts
it where it waits to be delivered alone.
"""


class Violation(AssertionError):
    """A rule was broken.

    :param what: Which.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.history: list[str] = []

    def __str__(self) -> str:
        return "\n  ".join([super().__str__(), *self.history])


def _must(holds: object, what: str) -> None:
    if not holds:
        raise Violation(what)


class Rules:
    """The rules.

    :param world: The server.
    :param actors: Its consumers.
    """

    def __init__(self, world: World, actors: Actors) -> None:
        self._world, self._actors = world, actors
        self._drained: dict[int, bool] = {}

    def check_content(self, view: View) -> None:
        """Conservation and the ledger: each message in one place, or counted as handled."""
        sent, handled = view.ledger.get("sent", 0), view.ledger.get("handled", 0)
        _must(len(view.names) == len(view.places), f"in two places: {view.places}")
        _must(sent - handled == len(view.places), f"{sent} - {handled} != {view.places}")
        dead = sum(key == KEYS.dead for _, key in view.places)
        _must(view.ledger.get("died", 0) == dead, f"{view.ledger} but {dead} dead letters")
        listed = sum(key in (KEYS.queue, KEYS.wake) for _, key in view.places)
        _must(view.ledger.get("listed", 0) == listed, f"{view.ledger} but {listed} listed")
        foreign = [view.ledger.get(name, 0) for name in ("foreign_in", "foreign_out")]
        _must(foreign == [0, 0], f"nobody else was here: {view.ledger}")
        lost = set(view.held) - set(view.leases)
        _must(not lost, f"held without a lease, which nobody buries: {lost}")

    def check_step(self, before: int, after: int, local: Local, knows: Local) -> None:
        """Fencing, and what disappears: only what this consumer has handled."""
        old, new = self._world.view(before), self._world.view(after)
        one = local.one
        if one is not None and one.is_entered and one.consumer not in old.held:
            _must(before == after, f"{one.consumer} is buried and changes something")
        _must(new.names <= old.names, f"came back: {new.names - old.names}")
        self._check_gone(old, new, knows.acked | local.acked)
        self._check_alone(local, knows)
        self._check_tags(new, knows)

    def check_clock(self, before: int, after: int, local: Local, action: str) -> None:
        """Who lives although its lease has ended saw the clock jump: all leases begin anew."""
        old, new = self._world.view(before), self._world.view(after)
        if local.one is None or action != "beat" or old.leases.get(local.one.consumer) != b"past":
            return
        _must(b"past" not in new.leases.values(), f"the clock jumped, yet {new.leases}")

    def check_late(self, before: int, after: int, everybody: tuple[Local, Local]) -> None:
        """A request that arrives late settles nothing but what was handled."""
        old, new = self._world.view(before), self._world.view(after)
        self._check_gone(old, new, everybody[0].acked | everybody[1].acked)

    def check_bury(self, before: int, name: str, after: int) -> None:
        """Only whose lease has ended is buried, and then wholly."""
        old, new = self._world.view(before), self._world.view(after)
        if old.leases[name] == b"later":
            _must(before == after, f"{name} was buried alive")
        else:
            _must(name not in new.held and name not in new.leases, f"{name} is half buried")
        _must(old.names == new.names, f"{old.names} before the burial, {new.names} after it")

    def _check_gone(self, old: View, new: View, acked: frozenset[tuple[str, str, str]]) -> None:
        for name in old.names - new.names:
            by = [
                (consumer, tag, name)
                for consumer, tags in old.held.items()
                for tag, held in tags.items()
                if held == name
            ]
            _must(set(by) & acked, f"{name} is lost: held as {by}, handled are {sorted(acked)}")

    def _check_alone(self, local: Local, knows: Local) -> None:
        """What took a consumer down is delivered to one that holds nothing else, and by itself."""
        if knows.one is None or not knows.is_entered:
            return
        known = knows.known()
        here = (*inside.ready(knows.one), *inside.running(knows.one))
        killers = {d.tag for d in here if inside.must_be_alone(d)} - local.known().keys()
        _must(not killers or len(known) == 1, f"{killers} are not delivered alone: {known}")

    def _check_tags(self, view: View, knows: Local) -> None:
        """One tag names one message, for the consumer and for the server."""
        if knows.one is None or not knows.is_entered:
            return
        held = view.held.get(knows.one.consumer, {})
        for tag, name in knows.known().items():
            _must(held.get(tag, name) == name, f"{tag} is {name} here and {held.get(tag)} there")

    # Nothing is stuck --------------------------------------------------------------------------

    def check_state(self, count: int, content: int, everybody: tuple[Local, Local]) -> int:
        """Try, from some states, that all comes to its end: with a fresh consumer, and without.

        :return: How many times that was tried.
        """
        for local in everybody:
            self._check_tags(self._world.view(content), local)
        if count % _EVERY:
            return 0
        if content not in self._drained:
            self._drained[content] = True
            self._drain(self._bury_all(content), self._actors.absent(0, frozenset()), "Z")
        self._go_on(content, everybody)
        return 1

    def _go_on(self, content: int, everybody: tuple[Local, Local]) -> None:
        """Those who live go on: what they hold, they finish; the dead are buried."""
        alive = {one.one.consumer for one in everybody if one.one is not None and one.is_entered}
        content = self._bury_all(content, alive)
        for name, local in zip("AB", everybody, strict=True):
            if local.is_entered:
                content = self._drain(content, local, name, leave=False)
        left = self._unfinished(self._world.view(content))
        if alive & set(self._world.view(content).leases):
            _must(not left, f"stuck though somebody lives: {left}")

    def _bury_all(self, content: int, but: set[str] | frozenset[str] = frozenset()) -> int:
        everyone = [n for n in self._world.view(content).leases if n not in but]
        for name in everyone:
            self._actors.wire.begin(content, None)
            self._actors.broker.bury(QUEUE, name, known=True)
            content = self._actors.wire.content
        return content

    def _drain(self, content: int, local: Local, name: str, leave: bool = True) -> int:
        def act(action: str) -> None:
            nonlocal content, local
            before, old = content, local
            content, local = self._actors.act(content, name, local, action, None)
            self.check_step(before, content, old, local)

        if local.one is None:
            act("enter")
        barren = 0
        while local.is_entered and (local.running or barren < _BARREN):
            content = self._world.edit(content, KEYS.delayed, lambda _, __: b"past")
            assert local.one is not None
            if local.running:
                act("finish ack")
                barren = 0
            else:
                act("turn 2")
                barren += 1
        if leave and local.is_entered:
            act("leave")
            left = self._unfinished(self._world.view(content))
            _must(not left, f"a fresh consumer leaves something: {left}")
        return content

    def _unfinished(self, view: View) -> list[tuple[str, str]]:
        return [place for place in view.places if place[1] != KEYS.dead]
