"""The end of the process of ``flask consume``, where something in it does not end by itself."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..guard import GRACE
from . import loading
from .output import Event, TextOutput


class End:
    """Sees to it that the process ends.

    :param output: Where to say how.
    :param on_left: Called when the consumer has left its queues.
    """

    def __init__(self, output: TextOutput, on_left: Callable[[], None] = lambda: None) -> None:
        self._output = output
        self._on_left = on_left
        self._runs = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Know that the command runs: what hangs in it ends the process, too."""
        self._runs = True
        try:
            yield
        finally:
            self._runs = False

    def stuck(self, is_stopping: bool) -> None:
        """End the process now: nothing in it reaches what hangs.

        :param is_stopping: Whether a stop was asked for; else a handler's ``timeout=`` is over.
        """
        text = "a handler, or what it began, did not end; what was unfinished was handed back"
        if not is_stopping:
            text = "a handler outlived its timeout= where nothing reaches it; start anew"
        self._on_left()
        self._exit(text, loading.LATE if is_stopping else 1)

    def left(self, seconds: float) -> None:
        """The queues are left: what goes on now, such as a thread of a handler, gets its time.

        :param seconds: What is left of the stop timeout.
        """
        self._on_left()
        args = (time.monotonic() + seconds + GRACE,)
        with contextlib.suppress(RuntimeError):  # no thread more: then it ends by itself or not
            threading.Thread(target=self._watch, args=args, name="end", daemon=True).start()

    def _watch(self, deadline: float) -> None:
        time.sleep(max(0.0, deadline - time.monotonic()))
        # Python waits for threads when its main thread is over; in a test runner it is not.
        if self._runs or not threading.main_thread().is_alive():
            self._exit("something that a handler or a receiver began did not end", loading.LATE)

    def _exit(self, text: str, code: int) -> None:
        self._output.say(Event("stopped", "■", "blue", f"stopped · {text}"))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
