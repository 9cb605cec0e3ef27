"""Producers and consumers that are hurt, as processes that start within milliseconds.

A Python that imports Flask takes 0.7 s to start, which would make 60 kills a minute impossible on
two cores. So one process imports everything, and forks a child for each order on its standard
input. A child builds its own app and its own connections, and a consumer then runs the very command
`flask consume`; what it shares with its siblings is imported code. When the input ends, because the
test run has ended in whatever way, it kills its process group: every child, the stopped ones too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, NoReturn

from flask import Flask
from flask.cli import ScriptInfo

from flask_redis_queue import (
    QueueFull,
    QueueUnavailable,
    RedisQueue,
    current_message,
    publisher,
)
from flask_redis_queue.cli.consume import consume as consume_command
from flask_redis_queue.signals import consumer_started, message_lost_lease

from ..apps import GOODS, StockSupplied
from . import naive
from .forked import supervise_by_fork
from .ledger import ACKNOWLEDGED, APPLIED, ATTEMPTED, READY, STARTED, UNSETTLED, Pen, lines


@dataclass(frozen=True)
class Order:
    """What one child is to do.

    :param role: A key of :data:`ROLES`.
    :param name: Its name, and that of its ledger.
    :param folder: Where the ledger is.
    :param url: Which Redis.
    :param settings: More lines for ``app.config``.
    :param work: Seconds that a handler takes.
    :param gate: A file; handlers do not end before it is there. Empty: none.
    :param pause: Seconds between two sends.
    :param most: How many a producer sends; 0: until SIGTERM.
    :param skew: Seconds by which its clock is ahead of the server's.
    :param threads: How many handler threads ``flask consume`` has; of ``many consume``, how many
        consumers run in the process.
    :param processes: How many worker processes ``flask consume`` has; each has a name and a ledger
        of its own, made from its number.
    """

    role: str
    name: str
    folder: str
    url: str
    settings: dict[str, Any]
    work: float = 0.001
    gate: str = ""
    pause: float = 0.003
    most: int = 0
    skew: float = 0.0
    threads: int = 1
    processes: int = 1


def make_app(order: Order) -> tuple[Flask, RedisQueue]:
    """:return: A new app of this process alone."""
    app = Flask("chaos")
    app.config.update(REDIS_URL=order.url, **order.settings)
    return app, RedisQueue(app, contracts=StockSupplied)


def make_consuming_app(order: Order) -> tuple[Flask, RedisQueue]:
    """:return: A new app with a handler that keeps a ledger."""
    app, queue = make_app(order)
    pen = Pen(Path(order.folder), order.name)

    @queue.handler(StockSupplied)
    def handle(supplied: dict[str, Any]) -> None:
        id = current_message.id
        pen.write(STARTED, id)
        time.sleep(order.work)
        while order.gate and not Path(order.gate).exists():
            time.sleep(0.01)
        pen.write(APPLIED, id)

    def tell(sender: object, message: Any) -> None:
        pen.write(UNSETTLED, message.id)

    def begin(sender: object, consumer: str) -> None:
        pen.write(READY, consumer, str(os.getpid()))

    # The process ends with its role, so that these need not be let go.
    message_lost_lease.connect(tell, weak=False)
    consumer_started.connect(begin, weak=False)
    return app, queue


def consume(order: Order) -> None:
    """Run ``flask consume``."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if order.processes > 1:
        supervise_by_fork(lambda: _end_with(lambda: _work(order)))
    _run_command(order, order.name)


def _work(order: Order) -> None:
    """Be a worker of ``flask consume -p``, whose number is in the environment."""
    _live_with(int(os.environ["FORKER"]))
    number = int(os.environ["FLASK_REDIS_QUEUE_SEAT"].partition(":")[0])
    _run_command(order, f"{order.name}.{number + 1}")


def _run_command(order: Order, pen: str) -> None:
    app, _ = make_consuming_app(replace(order, name=pen))
    info = ScriptInfo(create_app=lambda: app)
    counts = ["-c", str(order.threads), "-p", str(order.processes)]
    arguments = ["-q", "--name", order.name, "--wait-for-redis", "60s", *counts]
    consume_command.main(arguments, obj=info)


def consume_in_threads(order: Order) -> None:
    """Run many consumers in one process, each as if it were alone."""
    stopping = stops_on_sigterm()
    app, queue = make_consuming_app(order)
    names = [f"{order.name}.{number}" for number in range(order.threads)]
    consumers = [queue.consumer(app, name=name) for name in names]
    threads = [threading.Thread(target=consumer.run) for consumer in consumers]
    for thread in threads:
        thread.start()
    stopping.wait()
    for consumer in consumers:
        consumer.stop()
    for thread in threads:
        thread.join()


def produce(order: Order) -> None:
    """Send until it is told to stop; what a predecessor did not finish goes first."""
    app, queue = make_app(order)

    def send(id: str, number: int) -> bool:
        try:
            queue.send(StockSupplied, {**GOODS, "quantity": number}, id=id)
        except (QueueFull, QueueUnavailable):  # stored="no" or "unknown": the same id again
            return False
        return True

    with app.app_context():
        send_all(order, send)


def send_all(order: Order, send: Callable[[str, int], bool]) -> None:
    """Send message after message, each until it is acknowledged.

    :param order: Who, and how fast.
    :param send: Sends one; whether it was acknowledged.
    """
    stopping = stops_on_sigterm()
    folder = Path(order.folder)
    written = [words for _, words in lines(folder, order.name)]
    attempted = {words[1] for words in written if words[0] == ATTEMPTED}
    unfinished = sorted(attempted - {words[1] for words in written if words[0] == ACKNOWLEDGED})
    pen, number = Pen(folder, order.name), len(attempted)
    while unfinished or not (stopping.is_set() or (order.most and number >= order.most)):
        if unfinished:
            id = unfinished.pop()
        else:
            id, number = f"{order.name}-{number}", number + 1
            pen.write(ATTEMPTED, id)
        while not send(id, number):
            time.sleep(0.02)
        pen.write(ACKNOWLEDGED, id)
        time.sleep(order.pause)


def stops_on_sigterm() -> threading.Event:
    """:return: What SIGTERM sets, also one that came before anybody listened."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return stopping


def _naively_produce(order: Order) -> None:
    send_all(order, naive.sender(order.url))


def _naively_consume(order: Order) -> None:
    pen = Pen(Path(order.folder), order.name)
    naive.consume(order.url, pen, order.work, stops_on_sigterm())


ROLES: dict[str, Callable[[Order], None]] = {
    "produce": produce,
    "consume": consume,
    "many consume": consume_in_threads,
    "naively produce": _naively_produce,
    "naively consume": _naively_consume,
}


def shift_clock(seconds: float) -> None:
    """Shift the wall clock of this process; what measures durations stays right, as on a host."""
    now, now_ns = time.time, time.time_ns

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=seconds)

    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + round(seconds * 1e9)
    publisher.datetime = Shifted  # type: ignore[attr-defined]


def _child(order: Order, life: int) -> None:
    """Become what was ordered; never returns."""
    out = os.open(Path(order.folder, f"{order.name}.out"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)

    _live_with(life)
    os.environ["FORKER"] = str(life)
    if order.skew:
        shift_clock(order.skew)
    _end_with(lambda: ROLES[order.role](order))


def _live_with(life: int) -> None:
    """End when the forker has ended, which closes the other end of this."""

    def watch() -> None:
        os.read(life, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_with(work: Callable[[], None]) -> NoReturn:
    """Do it, and end this process with the exit code that it comes to."""
    code = 0
    try:
        work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        os._exit(code)


_ends: dict[int, str] = {}
"""How children have ended; the kernel says it once, and it may be asked for again."""


def _look(pid: int) -> str:
    """:return: ``running``, ``stopped``, or how it has ended."""
    if pid in _ends:
        return _ends[pid]
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if not found:
        return "running"
    if os.WIFSTOPPED(status):
        return "stopped"
    return _ends.setdefault(pid, f"ended {os.waitstatus_to_exitcode(status)}")


def main() -> None:
    """Answer each line: an order with the child's process id, a process id with its state."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test run, which ends us
    os.setpgid(0, 0)  # workers of killed supervisors are nobody's children, but of this group
    life, held_open = os.pipe()
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, int):
            answer = _look(asked)
        else:
            # A child must not miss the signal that comes before it knows what to do with it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            pid = os.fork()
            _ends.pop(pid, None)  # of one that had this number before
            if not pid:
                os.close(held_open)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                _child(Order(**asked), life)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            answer = str(pid)
        print(answer, flush=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
