"""What stands in the server, key by key, and whether a reference agrees."""

from __future__ import annotations

from collections import Counter
from typing import Any

import redis

from flask_redis_queue.keys import QueueKeys

from .reference import Reference, item_of, name_of


class Stored:
    """All keys of one moment.

    :param keys: Of each its type, its value, and the ms that it has to live (-1: for ever).
    """

    def __init__(self, keys: dict[str, tuple[str, Any, int]]) -> None:
        self.keys = keys

    def value(self, key: str, default: Any) -> Any:
        """:return: The value of a key."""
        return self.keys[key][1] if key in self.keys else default

    def write_back(self, client: redis.Redis) -> None:
        """Make the server hold this again."""
        with client.pipeline() as pipe:
            pipe.flushdb()
            for key, (kind, value, ttl) in self.keys.items():
                match kind:
                    case "list":
                        pipe.rpush(key, *value)
                    case "hash":
                        pipe.hset(key, mapping=value)
                    case "zset":
                        pipe.zadd(key, dict(value))
                    case _:
                        pipe.set(key, value, px=ttl if ttl > 0 else None)
            pipe.execute()

    def compare(self, reference: Reference) -> None:
        """Compare place by place, and see that no message is in two."""
        k = QueueKeys("q")
        assert reference.queue == [name_of(one) for one in self.value(k.queue, [])]
        assert reference.wake == [name_of(one) for one in self.value(k.wake, [])]
        assert reference.back == [item_of(one) for one in self.value(k.back, [])]
        delayed = [item_of(one) for one, _ in self.value(k.delayed, [])]
        assert sorted(item for item, _ in reference.delayed) == sorted(delayed)
        assert reference.dead == {
            key.decode(): item_of(one) for key, one in self.value(k.dead, {}).items()
        }
        assert set(reference.dead) == {key.decode() for key, _ in self.value(k.dead_index, [])}
        assert reference.leases == {
            name.decode(): score < 1_000_000 for name, score in self.value(k.leases, [])
        }
        ledger = {f.decode(): int(v) for f, v in self.value(k.ledger, {}).items()}
        assert +reference.ledger == +Counter(ledger)
        self._compare_held(k, reference)
        self._see_each_once(k)

    def _compare_held(self, k: QueueKeys, reference: Reference) -> None:
        prefix = k.held("")
        held = {
            key.removeprefix(prefix): v for key, (_, v, _) in self.keys.items() if prefix in key
        }
        assert set(reference.held) == set(held)
        for consumer, holder in reference.held.items():
            fields = {tag.decode(): one for tag, one in held[consumer].items()}
            assert holder.seq == int(fields.pop("#"))
            assert holder.items == {tag: item_of(one) for tag, one in fields.items()}

    def _see_each_once(self, k: QueueKeys) -> None:
        found: list[str] = []
        for key, (kind, value, _) in self.keys.items():
            if kind == "list":
                found += [name_of(one) for one in value]
            elif key == k.delayed:
                found += [name_of(one) for one, _ in value]
            elif kind == "hash" and key != k.ledger:
                found += [name_of(one) for tag, one in value.items() if tag != b"#"]
        assert [] == [name for name, times in Counter(found).items() if times > 1]


def read(client: redis.Redis, k: QueueKeys) -> Stored:
    """:return: What the server holds."""
    with client.pipeline(transaction=False) as pipe:
        names = [name.decode() for name in client.keys("*")]
        for name in names:
            pipe.pttl(name)
            match _kind(name, k):
                case "list":
                    pipe.lrange(name, 0, -1)
                case "hash":
                    pipe.hgetall(name)
                case "zset":
                    pipe.zrange(name, 0, -1, withscores=True)
                case _:
                    pipe.get(name)
        replies = pipe.execute() if names else []
    pairs = zip(names, replies[::2], replies[1::2], strict=True)
    return Stored({name: (_kind(name, k), value, ttl) for name, ttl, value in pairs})


def _kind(name: str, k: QueueKeys) -> str:
    if name in (k.queue, k.wake, k.back):
        return "list"
    if name in (k.delayed, k.leases, k.dead_index):
        return "zset"
    return "hash" if name in (k.dead, k.ledger) or name.startswith(k.held("")) else "string"
