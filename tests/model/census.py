"""What the explorer has seen, counted: so that it cannot be crippled unseen.

A search that never lets a second consumer take anything keeps every rule, too.
"""

from __future__ import annotations

from collections import Counter

from . import inside
from .actor import Fault, Local
from .world import View, World

# Of both in one state: each of them alone is also seen by a search in which only the first to enter
# ever does anything, for either may be the first.
BOTH_TURNED = "states in which both have had a turn"
BOTH_HOLD = "states in which both hold a message"
ZOMBIES = "states in which a zombie has an outcome of what another holds"
REFUSED = "times such a zombie's turn came to nothing"


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
        turned = holding = 0
        for local in everybody:
            if local.one is None or not local.is_entered:
                continue
            turned += inside.turns(local.one) > 0
            holding += bool(view.held.get(local.one.consumer))
            self.counts[ZOMBIES] += _is_zombie(view, local)
        self.counts[BOTH_TURNED] += turned == 2
        self.counts[BOTH_HOLD] += holding == 2

    def act(
        self, name: str, content: int, local: Local, action: str, fault: Fault | None, knows: Local
    ) -> None:
        """Look at what a consumer did."""
        if not action.startswith("turn") or local.one is None:
            return
        view = self._world.view(content)
        if knows.known().keys() - local.known().keys():
            self.counts[f"times that {name} took a message"] += 1
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
