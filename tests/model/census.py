"""What the explorer has seen, counted: so that it cannot be crippled unseen.

A search that never lets a second consumer take anything keeps every rule, too.
"""

from __future__ import annotations

from collections import Counter

from . import inside
from .actor import Fault, Local
from .states import NAMES
from .world import View, World

ZOMBIES = "states in which a zombie has an outcome of what another holds"
REFUSED = "times such a zombie's turn came to nothing"


def took(name: str) -> str:
    """:return: What counts that a consumer took something."""
    return f"times that {name} took a message"


class Census:
    """Counts.

    :param world: The server.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.counts: Counter[str] = Counter()

    def state(self, content: int, everybody: tuple[Local, Local]) -> None:
        """Look at a state that is new."""
        view = self._world.view(content)
        for name, local in zip(NAMES, everybody, strict=True):
            if local.one is None or not local.is_entered:
                continue
            if inside.turns(local.one):
                self.counts[f"states in which {name} has had a turn"] += 1
            if view.held.get(local.one.consumer):
                self.counts[f"states in which {name} holds a message"] += 1
            if _is_zombie(view, local):
                self.counts[ZOMBIES] += 1

    def act(
        self, name: str, content: int, local: Local, action: str, fault: Fault | None, knows: Local
    ) -> None:
        """Look at what a consumer did."""
        if not action.startswith("turn") or local.one is None:
            return
        view = self._world.view(content)
        if knows.known().keys() - local.known().keys():
            self.counts[took(name)] += 1
        if _is_zombie(view, local):
            again = "a repeated one" if inside.pending(local.one) else "its first"
            lost = f", {fault.kind}" if fault else ""
            self.counts[f"{REFUSED}: {again}{lost}"] += 1


def _is_zombie(view: View, local: Local) -> bool:
    """:return: Whether it is buried, does not know, and would settle what is another's by now."""
    one = local.one
    if one is None or not one.is_entered or one.consumer in view.held:
        return False
    names = {name for tags in view.held.values() for name in tags.values()}
    return bool(names & inside.unsettled(one))
