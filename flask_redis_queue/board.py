"""What a supervised process is doing, in memory that outlives it.

A killed process tells nobody what it held. So it writes down which handlers run, and which have
ended but are not settled yet, into memory that its supervisor has mapped, too: a few bytes for a
message, and no system call. The supervisor then settles what was done, blames only what was
running, and hands the rest on.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from .voice import Voice

_VOICE = 256
"""Where in the first page the bytes of :mod:`.voice` begin; before them, how far each is."""
_HEAD = 256
_SLOT, _SLOTS = 32, 1000
_DONE = 64 * 1024
_RUNNING_AT = _HEAD
_DONE_AT = _HEAD + _SLOT * _SLOTS
_WORKED_AT = _DONE_AT + _DONE
_SEAT = _WORKED_AT + 8
QUEUES = 64
"""Most queues of one supervised consumer."""


class Phase(IntEnum):
    """How far a process has come."""

    STARTS, CONSUMES, HAS_LEFT = range(3)


@dataclass(frozen=True)
class Report:
    """What a process did on one queue when it ended.

    :param queue: The queue.
    :param consumer: Its incarnation there.
    :param handled: Tags whose handler returned, and that were not settled.
    :param running: Tags whose handler ran.
    """

    queue: str
    consumer: str
    handled: list[str]
    running: list[str]


class Seat:
    """The part of one process that is about one queue; written under the subscription's lock.

    :param memory: Where it is.
    :param start: From which byte on.
    """

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._memory = memory
        self._head = start
        self._running = start + _RUNNING_AT
        self._done = start + _DONE_AT
        self._worked = start + _WORKED_AT
        self._free = list(range(_SLOTS))
        self._slots: dict[str, int] = {}
        self._length = 0

    def enter(self, queue: str, consumer: str) -> None:
        """Note a new incarnation, which holds nothing."""
        for tag in list(self._slots):
            self._leave_slot(tag)
        self._set_done(b"")
        text = f"{queue} {consumer}".encode()
        self._memory[self._head + 2 : self._head + 2 + len(text)] = text
        self._memory[self._head : self._head + 2] = len(text).to_bytes(2, "little")

    def start(self, tag: str) -> None:
        """Note that a handler begins."""
        if not self._free:
            return
        slot = self._slots[tag] = self._free.pop()
        at, text = self._running + slot * _SLOT, tag.encode()
        self._memory[at + 1 : at + 1 + len(text)] = text
        self._memory[at] = len(text)

    def finish(self, tag: str, *, handled: bool) -> None:
        """Note that it has ended.

        :param handled: Whether its message is done.
        """
        if handled:
            text = tag.encode() + b"\n"
            end = self._length + len(text)
            if end <= _DONE - 4:  # else it may run twice, as without a supervisor
                at = self._done + 4 + self._length
                self._memory[at : at + len(text)] = text
                self._set_length(end)
        self._leave_slot(tag)
        self._memory[self._worked] = 1

    @property
    def has_worked(self) -> bool:
        """:return: Whether a handler has ended here, well or not, and its process lived on."""
        return bool(self._memory[self._worked])

    def settle(self, left: Iterable[str]) -> None:
        """Note that everything is settled, but what has ended meanwhile.

        :param left: The tags of that.
        """
        self._set_done("".join(f"{tag}\n" for tag in left).encode()[: _DONE - 4])

    def read(self) -> Report | None:
        """Read what a process has left behind.

        :return: What it did; ``None``: it was never here.
        """
        memory = self._memory
        size = int.from_bytes(memory[self._head : self._head + 2], "little")
        if size == 0:
            return None
        queue, _, consumer = memory[self._head + 2 : self._head + 2 + size].decode().partition(" ")
        length = int.from_bytes(memory[self._done : self._done + 4], "little")
        handled = memory[self._done + 4 : self._done + 4 + length].decode().split()
        running = []
        for slot in range(_SLOTS):
            at = self._running + slot * _SLOT
            if memory[at]:
                running.append(memory[at + 1 : at + 1 + memory[at]].decode())
        # A kill between the two notes of one message leaves both: then it is done.
        return Report(queue, consumer, handled, [tag for tag in running if tag not in handled])

    def clear(self) -> None:
        """Forget everything: the process has ended, and what it left is dealt with."""
        self._memory[self._head : self._head + _SEAT] = bytes(_SEAT)

    def _leave_slot(self, tag: str) -> None:
        slot = self._slots.pop(tag, None)
        if slot is not None:
            self._memory[self._running + slot * _SLOT] = 0
            self._free.append(slot)

    def _set_done(self, text: bytes) -> None:
        self._set_length(0)
        self._memory[self._done + 4 : self._done + 4 + len(text)] = text
        self._set_length(len(text))

    def _set_length(self, length: int) -> None:
        self._length = length
        self._memory[self._done : self._done + 4] = length.to_bytes(4, "little")


class Board:
    """The memory that a supervisor and its processes share.

    It has no name, so nothing sweeps it away and nothing is left behind: processes inherit it.

    :param descriptor: Of it.
    :param processes: How many processes have seats in it.
    """

    def __init__(self, descriptor: int, processes: int) -> None:
        size = mmap.PAGESIZE + processes * QUEUES * _SEAT
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)  # sparse: what is not used takes no room
        os.set_inheritable(descriptor, False)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, size)
        self._lock = _FileLock(descriptor)

    @classmethod
    def create(cls, processes: int) -> Board:
        """:return: An empty one."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("redis-queue-board"), processes)
        with tempfile.TemporaryFile() as file:  # pragma: no cover: not on Linux
            return cls(os.dup(file.fileno()), processes)

    def close(self) -> None:
        """Let go of it."""
        self._memory.close()
        os.close(self.descriptor)

    def seats(self, process: int) -> list[Seat]:
        """:return: The seats of one process, counted from 0; one for each queue."""
        first = mmap.PAGESIZE + process * QUEUES * _SEAT
        return [Seat(self._memory, first + number * _SEAT) for number in range(QUEUES)]

    def voice(self, process: int) -> Voice:
        """:return: What one process, counted from 0, may say for all of them."""
        return Voice(self._memory, _VOICE, process, self._lock)

    def set_phase(self, process: int, phase: Phase) -> None:
        """Note how far a process has come."""
        self._memory[process] = phase

    def phase(self, process: int) -> Phase:
        """:return: How far a process has come."""
        return Phase(self._memory[process])


class _FileLock:
    """Keeps other threads and processes out; a process that dies lets go of it.

    :param descriptor: Of the file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._threads = threading.Lock()  # to the system, the threads of a process are one

    def __enter__(self) -> None:
        self._threads.acquire()
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *details: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
        self._threads.release()
