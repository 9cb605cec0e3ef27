"""Every Redis command that changes a queue on behalf of a sender or a consumer.

Each method is one script of ``lua/``, one round trip, and all or nothing. ``docs/architecture.md``
tells how they play together.
"""

from __future__ import annotations

import json
import time
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from .board import Report
from .clients import connection
from .config import Config
from .envelope import parse_delivery
from .keys import QueueKeys
from .protocol import SendRequest, TurnReply, TurnRequest
from .scripts import Script

SEND = Script("send")
ENTER = Script("enter")
TURN = Script("turn")
BEAT = Script("beat")
BURY = Script("bury")
RESYNC = Script("resync")

SEEN_MS = 60_000
"""How long a send request is remembered, so that repeating it stores nothing twice."""
_TOO_LARGE = {"cause": "too large", "why": "larger than REDIS_QUEUE_MAX_BYTES ({} bytes)"}
_CRASHED = {"cause": "crashed", "why": "took its consumer down {} times"}


class Broker:
    """The transitions of all queues of one app.

    :param pool: Connections for short exchanges.
    :param config: The app's settings.
    """

    def __init__(self, pool: redis.ConnectionPool, config: Config) -> None:
        self.pool = pool
        self.config = config
        self.lease_ms = round(config.lease * 1000)
        self._keys: dict[str, QueueKeys] = {}
        self._clock_offset: float | None = None
        self._too_large = _meta(_TOO_LARGE, config.max_bytes)
        self._crashed = _meta(_CRASHED, config.max_deliveries)

    def keys(self, queue: str) -> QueueKeys:
        """:return: The keys of a queue."""
        found = self._keys.get(queue)
        if found is None:
            found = self._keys[queue] = QueueKeys(queue)
        return found

    def server_time(self) -> float:
        """Estimate the server's clock from its last reply; asks it once, at first use.

        :return: Unix time in seconds.
        """
        if self._clock_offset is None:
            with connection(self.pool) as link:
                seconds, micros = link.call("TIME")
            self._note_time(int(seconds) * 1000 + int(micros) // 1000)
        return time.time() + (self._clock_offset or 0.0)

    def _note_time(self, now_ms: int) -> None:
        self._clock_offset = now_ms / 1000 - time.time()

    def send(self, request: SendRequest) -> tuple[str, str]:
        """Store messages, once however often it is repeated.

        :param request: What to store.
        :return: ``"ok"``, ``"seen"``, ``"duplicate"`` or ``"full"``, and the first message's id.
        """
        k = self.keys(request.queue)
        keys = [k.queue, k.wake, k.delayed, k.ledger, k.back, k.seen(request.request)]
        window = 0
        if request.dedup is not None:
            keys.append(k.dedup(request.dedup[0]))
            window = request.dedup[1]
        args: list[Any] = [
            request.token,
            request.seen_ms,
            self.config.max_length,
            request.delay_ms,
            window,
            request.first_id,
            *request.bodies,
        ]
        with connection(self.pool) as link:
            status, now, first = SEND.run(link, keys, args)
        self._note_time(now)
        return status.decode(), first.decode()

    def enter(self, queue: str, consumer: str) -> int:
        """Begin one incarnation of a consumer, with a login that may do all that one does.

        :return: The sequence that its first turn goes beyond.
        """
        k = self.keys(queue)
        keys = [k.leases, k.held(consumer), k.ledger, k.nothing]
        with connection(self.pool) as link:
            now, seq = ENTER.run(link, keys, [consumer, self.lease_ms])
        self._note_time(now)
        return int(seq)

    def turn(self, queue: str, request: TurnRequest) -> TurnReply:
        """Settle, renew the lease, and take what comes next.

        :return: What it brought.
        """
        with connection(self.pool) as link:
            reply = TURN.run(link, *self._turn_call(queue, request))
        return self._read_turn(queue, request, reply)

    def turn_when_woken(
        self, pool: redis.ConnectionPool, queue: str, request: TurnRequest, block: float
    ) -> tuple[TurnReply, ResponseError | None]:
        """Wait until the queue has something, then take a turn; both in one round trip.

        BLMOVE is only the alarm clock: every turn drains ``wake`` first, whoever filled it.

        :param pool: Connections that may wait for longer than ``block``.
        :param queue: The queue.
        :param request: The turn.
        :param block: Seconds to wait.
        :return: What the turn brought, and why waiting was refused, if it was.
        """
        k = self.keys(queue)
        refused: ResponseError | None = None
        keys, args = self._turn_call(queue, request)
        with connection(pool) as link:
            link.send("BLMOVE", k.queue, k.wake, "RIGHT", "LEFT", _timeout(block))
            link.send(*TURN.command(keys, args))
            try:
                link.read()
            except ResponseError as error:
                refused = error
            try:
                reply = link.read()
            except NoScriptError:
                reply = TURN.run(link, keys, args)
        return self._read_turn(queue, request, reply), refused

    def wait(self, pool: redis.ConnectionPool, queue: str, block: float) -> bool:
        """Wait until the queue has something.

        :return: Whether it has.
        """
        k = self.keys(queue)
        with connection(pool) as link:
            moved = link.call("BLMOVE", k.queue, k.wake, "RIGHT", "LEFT", _timeout(block))
        return moved is not None

    def try_wait(self, pool: redis.ConnectionPool, queue: str) -> None:
        """Find out whether waiting is allowed, without moving anything.

        :param pool: Connections that may wait.
        :param queue: The queue.
        """
        k = self.keys(queue)
        with connection(pool) as link:
            link.call("BLMOVE", k.nothing, k.wake, "RIGHT", "LEFT", _timeout(0))

    def beat(self, queue: str, consumer: str) -> list[str] | None:
        """Renew a lease.

        :return: Consumers whose lease has lapsed; ``None``: this one is gone itself.
        """
        k = self.keys(queue)
        with connection(self.pool) as link:
            reply = BEAT.run(link, [k.leases, k.held(consumer)], [consumer, self.lease_ms])
        if reply[0] != b"ok":
            return None
        return [name.decode() for name in reply[2:]]

    def bury(
        self, queue: str, consumer: str, *, known: bool = False, last_seen: Report | None = None
    ) -> tuple[bool, int, int]:
        """End a consumer and free what it held.

        :param queue: The queue.
        :param consumer: Whom.
        :param known: It has ended for sure; else only if its lease has lapsed.
        :param last_seen: What it was doing; ``None``: all that it held may have taken it down.
        :return: Whether it was there, messages put back, dead letters made.
        """
        k = self.keys(queue)
        keys = [k.leases, k.held(consumer), k.back, k.dead, k.dead_index, k.ledger]
        args = [
            consumer,
            self.config.max_deliveries,
            "known" if known else "lapsed",
            self.config.dead_max,
            self._crashed,
            "all" if last_seen is None else "named",
            len(last_seen.handled) if last_seen else 0,
        ]
        if last_seen is not None:
            args += [*last_seen.handled, *last_seen.running]
        with connection(self.pool) as link:
            buried, back, dead, _ = BURY.run(link, keys, args)
        return bool(buried), back, dead

    def held(self, queue: str, consumer: str, tag: str) -> bytes | None:
        """Look at one message that a consumer holds.

        :return: What the scripts stored; ``None``: it holds no such message.
        """
        with connection(self.pool) as link:
            stored: bytes | None = link.call("HGET", self.keys(queue).held(consumer), tag)
        return stored

    def resync(self, queue: str, consumer: str, seq: int) -> tuple[int, list[str]] | None:
        """Ask what a consumer holds, and lift its sequence.

        :param queue: The queue.
        :param consumer: Which incarnation.
        :param seq: Higher than any number it has used.
        :return: Its sequence now and the tags it holds; ``None``: it is gone.
        """
        k = self.keys(queue)
        with connection(self.pool) as link:
            reply = RESYNC.run(link, [k.leases, k.held(consumer)], [consumer, self.lease_ms, seq])
        if reply[0] != b"ok":
            return None
        return reply[2], [tag.decode() for tag in reply[3:]]

    def _turn_call(self, queue: str, request: TurnRequest) -> tuple[list[str], list[Any]]:
        k = self.keys(queue)
        keys = [k.queue, k.wake, k.back, k.delayed, k.leases, k.ledger]
        keys += [k.held(request.consumer), k.dead, k.dead_index, k.paused]
        args: list[Any] = [
            request.consumer,
            request.seq,
            self.lease_ms,
            request.n,
            int(request.alone_ok),
            self.config.max_bytes,
            self.config.dead_max,
            self._too_large,
            *request.settlement.arguments(),
        ]
        return keys, args

    def _read_turn(self, queue: str, request: TurnRequest, reply: list[Any]) -> TurnReply:
        status = reply[0].decode()
        now = reply[1]
        self._note_time(now)
        if status != "ok":
            return TurnReply(status, now)
        _, _, settled, held, waiting, due, paused, large, *stored = reply
        seq = request.seq
        refused = [f"{request.consumer}:{seq}-{i}L" for i in range(1, large + 1)]
        taken = [parse_delivery(queue, f"{seq}-{i}", one) for i, one in enumerate(stored, 1)]
        return TurnReply("ok", now, settled, held, waiting, due, paused.decode(), refused, taken)


def _timeout(block: float) -> str:
    # Redis 6.2 cuts 0.001 seconds to 0 ms, which means for ever.
    return f"{max(block, 0.01):.3f}"


def _meta(template: dict[str, str], number: int) -> str:
    return json.dumps({**template, "why": template["why"].format(number)})
