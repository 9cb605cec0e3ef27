"""An app whose processes kill themselves at a named point in the life of a message.

``CRASH`` names the points, between commas, and ``MARKS`` a folder: there a process notes that it
has reached one, so that only the first one dies of it, and handlers note what they do.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

from flask_redis_queue import RedisQueue, Reject, current_message
from flask_redis_queue.broker import Broker
from flask_redis_queue.consumer import Consumer
from flask_redis_queue.protocol import TurnReply, TurnRequest
from flask_redis_queue.subscription import Subscription

from ..apps import GOODS, StockSupplied, make_app

FINE, FAILS_ONCE, REJECTED, BYSTANDER = range(4)
"""What becomes of a message of this quantity."""
SETTINGS = {"REDIS_QUEUE_LEASE": "1s", "REDIS_QUEUE_PREFETCH": 1}
"""One message at a time, so that each point means one message."""


def add_handler(queue: RedisQueue, marks: Path, point: Callable[[str], None]) -> None:
    """Register the handler of all kinds.

    :param queue: Where.
    :param marks: Where to note what it does, so that it outlives the process.
    :param point: Called at each point within it.
    """

    def note(what: str, kind: int) -> None:
        with (marks / "ledger").open("ab", buffering=0) as ledger:
            ledger.write(f"{what} {kind} {current_message.attempt}\n".encode())

    @queue.handler(StockSupplied, retry=2)
    def handle(supplied: dict[str, Any]) -> None:
        kind = supplied["quantity"]
        note("run", kind)
        point("before the effect")
        if kind == FAILS_ONCE and current_message.attempt == 1:
            raise OSError("fails once")
        if kind == REJECTED:
            raise Reject("not this one")
        note("effect", kind)
        point("after the effect")


def create_app() -> Flask:
    """:return: The app of a process that is to die."""
    return _make()[0]


def send(id: str) -> None:
    """Be a process that sends one message."""
    app, queue = _make()
    with app.app_context():
        queue.send(StockSupplied, {**GOODS, "quantity": FINE}, id=id)


def _make() -> tuple[Flask, RedisQueue]:
    marks, fatal = Path(os.environ["MARKS"]), os.environ["CRASH"].split(",")
    trial: list[Consumer] = []  # a supervisor enters once, to see whether it may: that is no point

    one_at_a_time = threading.Lock()

    def point(name: str) -> None:
        with one_at_a_time:  # to note it takes a while, in which no other thread may get further
            if name in fatal and not trial:
                try:
                    (marks / name).touch(exist_ok=False)
                except FileExistsError:
                    return
                os.kill(os.getpid(), signal.SIGKILL)

    _put_points(point)
    check = Consumer.check

    def try_it(consumer: Consumer) -> None:
        trial.append(consumer)
        check(consumer)
        trial.clear()

    Consumer.check = try_it  # type: ignore[method-assign]
    app, queue = make_app(os.environ["REDIS_URL"], **SETTINGS)
    add_handler(queue, marks, point)
    return app, queue


def _put_points(point: Callable[[str], None]) -> None:
    def around(owner: type, method: str, name: Callable[..., str]) -> None:
        real = getattr(owner, method)

        @functools.wraps(real)
        def wrapped(self: Any, *args: Any, **options: Any) -> Any:
            point(name("before", None, *args, **options))
            result = real(self, *args, **options)
            point(name("after", result, *args, **options))
            return result

        setattr(owner, method, wrapped)

    around(Broker, "send", lambda when, *_: f"{when} sending")
    around(Broker, "enter", lambda when, *_: f"{when} entering")
    around(Broker, "turn", _turn)
    around(Broker, "turn_when_woken", _turn)
    around(Broker, "bury", _bury)
    around(Subscription, "take", lambda when, taken: "before running" if taken else "")
    around(Subscription, "finish", lambda when, *_: f"{when} noting")


def _turn(when: str, result: Any, *args: Any) -> str:
    (request,) = (one for one in args if isinstance(one, TurnRequest))
    reply: TurnReply | None = result[0] if isinstance(result, tuple) else result
    if len(request.settlement):
        return f"{when} settling"
    return "after taking" if reply is not None and reply.deliveries else ""


def _bury(when: str, result: Any, *args: Any, known: bool = False, last_seen: Any = None) -> str:
    if last_seen is not None:
        return f"{when} freeing"
    return f"{when} {'leaving' if known else 'burying'}"
