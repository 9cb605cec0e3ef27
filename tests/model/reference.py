"""What each script should do, said again in Python: over names, without keys and times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Item(NamedTuple):
    """A message that was taken once, or sent with a delay.

    :param name: Which.
    :param attempts: How often its handler failed.
    :param deaths: How often a consumer vanished with it.
    """

    name: str
    attempts: int = 0
    deaths: int = 0


@dataclass
class Holder:
    """What one consumer holds.

    :param seq: The number of its last turn.
    :param items: By tag.
    """

    seq: int = 0
    items: dict[str, Item] = field(default_factory=dict)


def name_of(body: Any) -> str:
    """:return: The name that a message's bytes begin with."""
    raw = body.encode() if isinstance(body, str) else body
    return raw.rpartition(b"\n")[2].split(b" ")[0].decode()


def item_of(stored: bytes) -> Item:
    """:return: What the server stored of one, header and bytes."""
    _, attempts, deaths, _ = stored.partition(b"\n")[0].split(b" ")
    return Item(name_of(stored), int(attempts), int(deaths))


class Reference:
    """A queue as it should be. Lists have their next message at the end."""

    def __init__(self) -> None:
        self.queue: list[str] = []
        self.wake: list[str] = []
        self.large: set[str] = set()
        self.back: list[Item] = []
        self.delayed: list[tuple[Item, bool]] = []
        self.held: dict[str, Holder] = {}
        self.dead: dict[str, Item] = {}
        self.leases: dict[str, bool] = {}
        self.ledger: Counter[str] = Counter()
        self.seen: dict[str, str] = {}
        self.dedup: dict[str, str] = {}
        self.paused = ""
        self.fates: Counter[tuple[str, str]] = Counter()
        self.first_taken: list[str] = []
        self.listed: list[str] = []
        self.ended: set[str] = set()
        self.refused: set[str] = set()

    def carry_out(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """:return: What the script should answer, without times."""
        work: Callable[..., Any] = getattr(self, script)
        return work(keys, args)

    # Senders -----------------------------------------------------------------------------------

    def send(self, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Store messages once."""
        token, _, most, delay, window, first, *bodies = args
        names = [name_of(body) for body in bodies]
        if keys[5] in self.seen:
            return ["ok" if self.seen[keys[5]] == token else "seen", first]
        if window and keys[6] in self.dedup:
            self.refused |= set(names)
            return ["duplicate", self.dedup[keys[6]]]
        there = len(self.queue) + len(self.wake) + len(self.back) + len(self.delayed)
        if there + len(names) > most > 0:
            self.refused |= set(names)
            return ["full", ""]
        if delay:
            self.delayed += [(Item(name), False) for name in names]
            self.ledger["delayed_sent"] += len(names)
        else:
            self._fold_foreign()
            for name in names:
                self.push(name)
            self.ledger["sent"] += len(names)
            self.ledger["listed"] += len(names)
        self.seen[keys[5]] = token
        if window:
            self.dedup[keys[6]] = first
        return ["ok", first]

    def push(self, name: str) -> None:
        """Somebody pushes to the list."""
        self.queue.insert(0, name)
        self.listed.append(name)

    def pop(self) -> None:
        """Somebody pops from the list and tells nobody."""
        name = self.queue.pop()
        self.fates[name, "foreign_out"] += 1
        self.listed.remove(name)

    def move(self) -> None:
        """A waiter's alarm clock moves one message."""
        if self.queue:
            self.wake.insert(0, self.queue.pop())

    # Consumers ---------------------------------------------------------------------------------

    def enter(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Begin an incarnation."""
        if args[0] not in self.held:
            self.held[args[0]] = Holder(self.ledger["entered"] * 1_000_000)
            self.ledger["entered"] += 1
        self.ended.discard(args[0])
        self._renew(args[0])
        return [self.held[args[0]].seq]

    def beat(self, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Renew a lease."""
        if args[0] not in self.held:
            return ["gone"]
        self._renew(args[0])
        return ["ok", *sorted(name for name, lapsed in self.leases.items() if lapsed)]

    def resync(self, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Say what a consumer holds."""
        holder = self.held.get(args[0])
        if holder is None:
            return ["gone"]
        holder.seq = max(holder.seq, args[2])
        self._renew(args[0])
        return ["ok", holder.seq, *sorted(holder.items)]

    def bury(self, keys: Sequence[str], args: Sequence[Any]) -> list[int]:
        """End a consumer."""
        consumer, most, how, _, _, blamed, size, *tags = args
        if how == "lapsed" and not self.leases.get(consumer, False):
            return [0, 0, 0, 0]
        done, guilty = tags[:size], tags[size:]
        there = self.leases.pop(consumer, None) is not None
        items = self.held.pop(consumer, Holder()).items
        back = dead = handled = 0
        for tag in sorted(items, key=_order):
            is_guilty = blamed == "all" or tag in guilty
            item = items[tag]._replace(deaths=items[tag].deaths + is_guilty)
            if tag in done:
                self.fates[item.name, "handled"] += 1
                handled += 1
            elif is_guilty and item.deaths >= most:
                self.dead[f"{consumer}:{tag}"] = item
                dead += 1
            else:
                self.back.insert(0, item)
                back += 1
        self.ledger["buried"] += back + dead
        self.ledger["died"] += dead
        self.ledger["handled"] += handled
        self.ended.add(consumer)
        return [int(there), back, dead, handled]

    def turn(self, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Settle, renew, and take what comes next."""
        consumer, seq, _, n, alone, _, _, _, *lists = args
        holder = self.held.get(consumer)
        if holder is None:
            return ["gone"]
        if seq != holder.seq + 1:
            if seq == holder.seq:
                return self._answer(holder, 0, 0, seq)
            return ["stale" if seq < holder.seq else "behind"]
        self._renew(consumer)
        self._fold_foreign()
        settled = self._settle(consumer, holder, lists)
        dead = self.ledger["died"]
        taken = [] if self.paused else self._fetch(n, bool(alone), f"{consumer}:{seq}-")
        large = self.ledger["died"] - dead
        holder.items |= {f"{seq}-{i}": item for i, item in enumerate(taken, 1)}
        holder.seq = seq
        return self._answer(holder, settled, large, seq)

    def _answer(self, holder: Holder, settled: int, large: int, seq: int) -> list[Any]:
        waiting = len(self.queue) + len(self.wake) + len(self.back)
        own = [
            holder.items[tag] for tag in sorted(holder.items, key=_order) if _order(tag)[0] == seq
        ]
        due = bool(self.delayed) + any(is_due for _, is_due in self.delayed)
        return ["ok", settled, len(holder.items), waiting, due, self.paused, large, *own]

    def _settle(self, consumer: str, holder: Holder, lists: list[Any]) -> int:
        parts = []
        while lists:
            size = lists[0]
            parts.append(lists[1 : size + 1])
            lists = lists[size + 1 :]
        acked, expired, retried, dead, back = parts
        before = len(holder.items)
        for field_name, tags in (("handled", acked), ("expired", expired)):
            for item in _out(holder, tags):
                self.ledger[field_name] += 1
                self.fates[item.name, field_name] += 1
        for item in _out(holder, retried[::2]):
            self.delayed.append((item._replace(attempts=item.attempts + 1), False))
            self.ledger["retried"] += 1
        for tag in dead[::2]:
            for item in _out(holder, [tag]):
                self.dead[f"{consumer}:{tag}"] = item
                self.ledger["died"] += 1
        for item in _out(holder, back[::-1]):
            self.back.append(item)
            self.ledger["handed_back"] += 1
        return before - len(holder.items)

    def _fetch(self, n: int, alone_ok: bool, turn: str) -> list[Item]:
        taken: list[Item] = []
        before = self.ledger["died"]
        while len(taken) < n and self.back:
            item = self.back[-1]
            if item.deaths > 0:
                return [self.back.pop()] if alone_ok and not taken else taken
            if not self._refuse(self.back.pop(), f"{turn}{self.ledger['died'] - before + 1}L"):
                taken.append(item)
        busy = bool(self.queue or self.wake)
        self._take_due(taken, math.ceil((n - len(taken)) / 2) if busy else n - len(taken))
        for source in (self.wake, self.queue):
            while source and len(taken) < n:
                item = Item(source.pop())
                self.ledger["listed"] -= 1
                self.first_taken.append(item.name)
                if not self._refuse(item, f"{turn}{self.ledger['died'] - before + 1}L"):
                    taken.append(item)
        self._take_due(taken, n - len(taken))
        return taken

    def _refuse(self, item: Item, key: str) -> bool:
        if item.name not in self.large:
            return False
        self.dead[key] = item
        self.ledger["died"] += 1
        return True

    def _take_due(self, taken: list[Item], most: int) -> None:
        due = [entry for entry in self.delayed if entry[1]][: max(most, 0)]
        self.delayed = [entry for entry in self.delayed if entry not in due]
        for item, _ in due:
            if item.deaths > 0:
                self.back.insert(0, item)  # from there it travels alone
            else:
                taken.append(item)

    def _renew(self, consumer: str) -> None:
        if self.leases.get(consumer, False):  # it lives, so the clock has jumped
            self.leases = dict.fromkeys(self.leases, False)
        self.leases[consumer] = False

    def _fold_foreign(self) -> None:
        more = len(self.queue) + len(self.wake) - self.ledger["listed"]
        self.ledger["foreign_in"] += max(more, 0)
        self.ledger["foreign_out"] += max(-more, 0)
        self.ledger["listed"] += more

    # An operator -------------------------------------------------------------------------------

    def replay(self, keys: Sequence[str], args: Sequence[Any]) -> int:
        """Bring dead letters back."""
        found = [key for key in args[::2] if key in self.dead]
        for key in found:
            self.back.insert(0, Item(self.dead.pop(key).name))
        self.ledger["replayed"] += len(found)
        return len(found)

    def discard(self, keys: Sequence[str], args: Sequence[Any]) -> int:
        """Delete dead letters."""
        found = [key for key in args if key in self.dead]
        for key in found:
            self.fates[self.dead.pop(key).name, "purged"] += 1
        self.ledger["purged"] += len(found)
        return len(found)


def _out(holder: Holder, tags: Sequence[str]) -> list[Item]:
    return [holder.items.pop(tag) for tag in tags if tag in holder.items]


def _order(tag: str) -> tuple[int, int]:
    seq, _, position = tag.partition("-")
    return int(seq), int(position)
