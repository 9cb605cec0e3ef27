"""Which of a command's processes speaks, and what of trouble is said."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from flask_redis_queue.board import Board, Phase
from flask_redis_queue.config import load
from flask_redis_queue.outage import Outage
from flask_redis_queue.voice import Voice

URL = "redis://127.0.0.1:6399/0"
Said = Callable[[], list[str]]
GONE = RedisConnectionError("Connection closed by server.")


@pytest.fixture(autouse=True)
def leap(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass; a look at the clock takes a microsecond, also on a machine that halts."""
    looks, passed = itertools.count(10**9), [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: next(looks) / 1e6 + sum(passed))
    for module in ("flask_redis_queue.outage", "flask_redis_queue.voice", __name__):
        monkeypatch.setattr(f"{module}.time", clock)
    return passed.append


def outage(voice: Voice | None = None) -> Outage:
    """:return: The trouble of one process."""
    return Outage(load({"REDIS_URL": URL}, {}), voice)


def opened(path: str, processes: int) -> Board:
    """:return: What processes share that have not inherited it."""
    return Board(os.open(path, os.O_RDWR | os.O_CREAT), processes)


@pytest.fixture
def voices(tmp_path: Path) -> list[Voice]:
    """Three processes of one command."""
    boards = [opened(str(tmp_path / "board"), 3) for _ in range(3)]
    return [board.voice(number) for number, board in enumerate(boards)]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """What was logged."""
    caplog.set_level(logging.WARNING, "flask_redis_queue")
    return lambda: [record.getMessage() for record in caplog.records]


def test_who_hears_late_of_a_trouble_that_is_over(said: Said) -> None:
    """The other thread's connection broke with it, and is read when Redis has long answered."""
    one, asked = outage(), time.monotonic()
    one.begin(GONE, True, asked)
    one.end(time.monotonic())
    assert one.begin(GONE, True, asked) <= 0.05
    one.end(time.monotonic())
    assert 2 == len(said())
    one.begin(GONE, True, time.monotonic())
    assert 3 == len(said())


def test_the_first_says_that_it_begins_and_the_last_that_it_ends(
    voices: list[Voice], said: Said, leap: Callable[[float], None]
) -> None:
    """Two lines for three processes, over the whole time; the next trouble is said anew."""
    troubles = [outage(voice) for voice in voices]
    for _ in range(2):
        leap(60)
        now = time.monotonic()
        for number, one in enumerate(troubles):
            one.begin(GONE, True, now - 5 - number)
            one.begin(GONE, True, now)
        for one in reversed(troubles):
            one.end(time.monotonic())
    assert said() == 2 * [
        f"Redis connection lost: Redis at {URL} closed the connection; running handlers go on. "
        "Nothing is lost; retrying.",
        f"Redis at {URL} is back after 7s; work goes on.",
    ]


def test_an_answer_from_before_is_no_end(said: Said) -> None:
    """What was asked before the trouble was noticed says nothing, however late its answer is read.

    Not even where the request that failed was sent before it.
    """
    one = outage()
    asked = time.monotonic()
    one.begin(GONE, False, asked - 5)
    one.end(asked)
    assert 1 == len(said())
    one.end(time.monotonic())
    assert f"Redis at {URL} is back after 5s; work goes on." == said()[-1]


def test_a_cut_of_a_moment_is_no_0s(said: Said) -> None:
    """Below a second it is told in milliseconds."""
    one = outage()
    one.begin(GONE, False, float("inf"))
    one.end(time.monotonic())
    assert said()[-1].endswith("ms; work goes on.")


def test_a_late_answer_is_said_once(voices: list[Voice], said: Said) -> None:
    """One line for all processes, and none of a time that was told already, or for a short one."""
    first, second, third = (outage(voice) for voice in voices)
    now = time.monotonic()
    first.end(now - 1.5, now - 1.5)
    assert [] == said()
    first.end(now - 5, now - 4)
    second.end(now - 5, now - 5)
    assert [f"Waited 4s for an answer of Redis at {URL}; work goes on."] == said()
    third.begin(GONE, False, now - 5)
    first.end(now - 5, now - 5)
    third.end(time.monotonic())
    second.end(now - 5, now - 5)
    assert 3 == len(said()), said()


def test_a_successor_says_what_the_dead_one_cannot(voices: list[Voice], said: Said) -> None:
    """A worker that dies in trouble leaves its end to the one in its place, if there is one."""
    first = outage(voices[0])
    first.begin(GONE, False, time.monotonic())
    outage(voices[0]).end(time.monotonic())
    assert "is back" in said()[1]
    outage(voices[0]).begin(GONE, False, time.monotonic())
    voices[0].forget()
    outage(voices[1]).begin(GONE, False, time.monotonic())
    outage(voices[1]).end(time.monotonic())
    assert 5 == len(said()), said()


def test_what_is_said_once(voices: list[Voice]) -> None:
    """A refusal once for good; what becomes of what was held once for each trouble."""
    assert [True, False, False] == [voice.is_first("refused") for voice in voices]
    assert [True, False, False] == [voice.is_first("held") for voice in voices]
    assert voices[0].was_said("refused")
    voices[0].begin(0)
    voices[0].end()
    assert [True, False] == [voices[1].is_first("held"), voices[1].is_first("refused")]
    assert [True, False] == [Voice().is_first("held"), Voice().was_said("held")]


def _speak(path: str, process: int, rounds: int) -> tuple[int, int]:
    board = opened(path, 4)
    voice = board.voice(process)
    board.set_phase(process, Phase.CONSUMES)
    while not all(board.phase(number) for number in range(4)):
        pass  # so that they come between each other
    begun = ended = 0
    for _ in range(rounds):
        begun += voice.begin(time.monotonic())
        ended += voice.end() is not None
    return begun, ended


def test_processes_do_not_speak_at_once(tmp_path: Path) -> None:
    """As many beginnings as ends are said, however the processes come between each other."""
    path = str(tmp_path / "board")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        told = pool.starmap(_speak, [(path, number, 20_000) for number in range(4)])
    begun, ended = (sum(numbers) for numbers in zip(*told, strict=True))
    assert begun == ended
