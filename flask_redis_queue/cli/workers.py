"""``flask consume -p N``: this command as a supervisor, and as one of its workers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import click

from ..board import Board, Phase, Seat
from ..consumer import Consumer
from ..exceptions import ConfigurationError, QueueRefused
from ..plan import Plan
from ..state import AppState
from ..supervisor import Supervisor
from ..voice import Voice
from . import loading

_SEAT = "FLASK_REDIS_QUEUE_SEAT"


@dataclass(frozen=True)
class Place:
    """The place of this process among the workers of a supervisor.

    :param number: From 0.
    :param board: Where to write down what it does.
    :param name: Its name, made from the supervisor's.
    """

    number: int
    board: Board
    name: str

    def seats(self) -> list[Seat]:
        """:return: One for each queue."""
        return self.board.seats(self.number)

    def voice(self) -> Voice:
        """:return: What it may say for all workers."""
        return self.board.voice(self.number)

    def set_ready(self) -> None:
        """Tell the supervisor that it consumes."""
        self.board.set_phase(self.number, Phase.CONSUMES)

    def set_left(self) -> None:
        """Tell the supervisor that it has left its queues, and that its exit code is its own."""
        if self.board.phase(self.number) is Phase.CONSUMES:
            self.board.set_phase(self.number, Phase.HAS_LEFT)


def find_place() -> tuple[Place, int] | None:
    """Find out whether this process is a worker.

    :return: Its place, and the descriptor that ends when its supervisor does.
    """
    given = os.environ.pop(_SEAT, None)
    if given is None:
        return None
    number, processes, alive, descriptor, name = given.split(":", 4)
    board = Board(int(descriptor), int(processes))
    os.set_inheritable(int(alive), False)
    return Place(int(number), board, f"{name}.{int(number) + 1}"), int(alive)


def stop_with_supervisor(descriptor: int, consumer: Consumer) -> None:
    """Have a worker stop when its supervisor has ended, however that was.

    :param descriptor: Ends when the supervisor does.
    :param consumer: What to stop.
    """

    def watch() -> None:
        os.read(descriptor, 1)
        consumer.stop()

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()


@contextmanager
def refused_once(place: Place | None) -> Iterator[None]:
    """Have one worker only say what all of them meet: that Redis refuses, or that no setting fits.

    :param place: Of this worker; ``None``: it is none, and says everything.
    :raises click.exceptions.Exit: If another one says it.
    """
    try:
        yield
    except QueueRefused as error:
        if place is None or place.voice().is_first("refused"):
            raise
        raise click.exceptions.Exit(loading.REFUSED) from error
    except ConfigurationError as error:
        if place is None or place.voice().is_first("misfit"):
            raise
        raise click.exceptions.Exit(loading.MISCONFIGURED) from error


def supervise(
    state: AppState,
    name: str,
    processes: int,
    *,
    stop_timeout: float,
    once: bool,
    max_memory: int,
    on_ready: Callable[[], None],
) -> int:
    """Run this very command in several processes.

    :param state: Whose queues.
    :param name: What the workers' names begin with.
    :param processes: How many.
    :param stop_timeout: Seconds that running handlers get.
    :param once: Whether a worker that ended by itself is not started again.
    :param max_memory: Bytes past which a worker is killed at one and a half times; 0: never.
    :param on_ready: Called when all of them consume.
    :return: The exit code.
    """
    board = Board.create(processes)

    def environment(number: int, alive: int) -> dict[str, str]:
        place = f"{number}:{processes}:{alive}:{board.descriptor}:{name}"
        return {**os.environ, _SEAT: place}

    command = [sys.executable, *sys.orig_argv[1:]]
    plan = Plan(processes, command, environment, stop_timeout, once, max_memory)
    with closing(board):
        return Supervisor(plan, board, state.broker, on_ready).run()
