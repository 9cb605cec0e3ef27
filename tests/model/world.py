"""The real server as a function: from one content and one request to the next content and a reply.

Times are taken out of what is stored, so that contents that differ only in the clock are one. Each
pair of content and request goes to the server once; what it did is remembered.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

from flask_redis_queue import broker as scripts
from flask_redis_queue.keys import QueueKeys
from flask_redis_queue.scripts import Script

QUEUE = "q"
KEYS = QueueKeys(QUEUE)
LEASE = 3600.0
RETRY_SECONDS = 36_000.0
_HEADER = re.compile(rb"(\S+ \d+ \d+) [1-9]\d*\n")
# As JSON lines would, but the whole content in one reply.
_DUMP = b"""
local out = {}
for _, k in ipairs(redis.call('KEYS', '*')) do
  local t, v = redis.call('TYPE', k).ok, nil
  if t == 'list' then v = redis.call('LRANGE', k, 0, -1)
  elseif t == 'hash' then v = redis.call('HGETALL', k)
  elseif t == 'zset' then v = redis.call('ZRANGE', k, 0, -1, 'WITHSCORES')
  else v = {redis.call('GET', k)} end
  out[#out + 1] = {k, t, v}
end
return out
"""

Content = tuple[tuple[str, bytes, tuple[bytes, ...]], ...]
"""Every key in order of its name: what it is, and its members, without times."""
Command = tuple[Any, ...]
SCRIPTS = {
    one.digest: one.name
    for one in vars(scripts).values()
    if isinstance(one, Script) and one.name != "_common"
}
"""The scripts by their digest."""


def timeless(stored: bytes) -> bytes:
    """:return: A stored message whose header says only whether it was ever taken."""
    return _HEADER.sub(rb"\1 1\n", stored, count=1) if _HEADER.match(stored) else stored


class World:
    """Contents of the server, each known by its number.

    :param link: A connection to a server that nothing else uses.
    """

    def __init__(self, link: Any) -> None:
        self._link = link
        self._born = int(time.time() * 1000)
        self._ids: dict[Content, int] = {}
        self._known: dict[tuple[int, Command], tuple[int, Any]] = {}
        self._views: dict[int, View] = {}
        self.contents: list[Content] = []
        self.asked = 0
        self.on_new: Callable[[View], None] = lambda view: None
        for name in ("SEND", "ENTER", "TURN", "BEAT", "BURY", "RESYNC"):
            link.send_command("SCRIPT", "LOAD", getattr(scripts, name).source)
            link.read_response()
        link.send_command("SCRIPT", "LOAD", _DUMP)
        self._dump = link.read_response()
        self.empty = self.number(())

    def number(self, content: Content) -> int:
        """:return: The number of a content; a new one is looked at by ``on_new``."""
        found = self._ids.get(content)
        if found is None:
            found = self._ids[content] = len(self.contents)
            self.contents.append(content)
            self.on_new(self.view(found))
        return found

    def view(self, number: int) -> View:
        """:return: What a content says, to look at."""
        found = self._views.get(number)
        if found is None:
            found = self._views[number] = View(self.contents[number])
        return found

    def apply(self, number: int, command: Command) -> tuple[int, Any]:
        """Let the server carry a command out.

        :param number: The content before it.
        :param command: As it is sent.
        :return: The content after it, and the reply.
        """
        known = self._known.get((number, command))
        if known is None:
            self.asked += 1
            reply, dump = self._ask(number, command)
            known = self.number(self._normal(dump)), _timeless_reply(reply)
            self._known[number, command] = known
        return known

    def edit(self, number: int, key: str, change: Callable[[bytes, bytes], bytes]) -> int:
        """:return: The content in which the marks of a sorted set's members are others."""
        parts = []
        for name, kind, members in self.contents[number]:
            if name == key:
                pairs = zip(members[::2], members[1::2], strict=True)
                members = tuple(p for m, mark in pairs for p in (m, change(m, mark)))
            parts.append((name, kind, members))
        return self.number(tuple(parts))

    def _ask(self, number: int, command: Command) -> tuple[Any, Any]:
        commands = [("FLUSHDB",), *self._restore(number), command, ("EVALSHA", self._dump, 0)]
        self._link.send_packed_command(self._link.pack_commands(commands))
        for _ in commands[:-2]:
            self._link.read_response()
        try:
            reply: Any = self._link.read_response()
        except redis.ResponseError as error:
            reply = error
        return reply, self._link.read_response()

    def _restore(self, number: int) -> Iterator[Command]:
        later = {
            KEYS.leases: self._born + round(LEASE * 1000),
            KEYS.delayed: self._born + round(RETRY_SECONDS * 500),
        }
        for key, kind, members in self.contents[number]:
            if kind == b"zset":
                scores = [
                    rank + (later.get(key, 0) if mark == b"later" else 1)
                    for rank, mark in enumerate(members[1::2])
                ]
                pairs = zip(scores, members[::2], strict=True)
                yield ("ZADD", key, *(part for pair in pairs for part in pair))
            else:
                yield ({b"list": "RPUSH", b"hash": "HSET", b"string": "SET"}[kind], key, *members)

    def _normal(self, dump: list[Any]) -> Content:
        content = []
        for raw_key, kind, value in dump:
            key = raw_key.decode()
            if kind == b"hash":
                pairs = sorted(zip(value[::2], value[1::2], strict=True))
                members = [part for f, v in pairs for part in (f, timeless(v))]
            elif kind == b"zset":
                pairs = [
                    (m, self._mark(key, s)) for m, s in zip(value[::2], value[1::2], strict=True)
                ]
                if key == KEYS.leases:
                    pairs.sort()
                members = [part for m, mark in pairs for part in (timeless(m), mark)]
            else:
                members = [timeless(one) for one in value]
            content.append((key, kind, tuple(members)))
        return tuple(sorted(content))

    def _mark(self, key: str, score: bytes) -> bytes:
        if key == KEYS.dead_index:
            return b"then"
        return b"later" if float(score) > self._born else b"past"


def _timeless_reply(reply: Any) -> Any:
    if isinstance(reply, list):
        return [timeless(one) if isinstance(one, bytes) else one for one in reply]
    return reply


class View:
    """One content, to ask.

    :param content: What the server holds.
    """

    def __init__(self, content: Content) -> None:
        prefix = KEYS.held("")
        self.places: list[tuple[str, str]] = []
        self.held: dict[str, dict[str, str]] = {}
        self.leases: dict[str, bytes] = {}
        self.ledger: dict[str, int] = {}
        self.ready = 0
        self.others: list[str] = []
        self.later = False
        for key, kind, members in content:
            pairs = list(zip(members[::2], members[1::2], strict=kind in (b"hash", b"zset")))
            if key.startswith(prefix):
                tags = {t.decode(): _name(v) for t, v in pairs if t != b"#"}
                self.held[key.removeprefix(prefix)] = tags
                self.places += [(name, key) for name in tags.values()]
            elif key == KEYS.leases:
                self.leases = {m.decode(): mark for m, mark in pairs}
            elif key == KEYS.ledger:
                self.ledger = {f.decode(): int(v) for f, v in pairs}
            elif key == KEYS.dead:
                self.places += [(_name(v), key) for _, v in pairs]
            elif key == KEYS.delayed:
                self.places += [(_name(m), key) for m, _ in pairs]
                self.later = any(mark == b"later" for _, mark in pairs)
            elif kind == b"list":
                self.places += [(_name(m), key) for m in members]
                self.ready += len(members) if key == KEYS.queue else 0
        self.names = frozenset(name for name, _ in self.places)


def _name(stored: bytes) -> str:
    return stored.rpartition(b"\n")[2].decode()
