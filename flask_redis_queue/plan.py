"""How the workers of one command are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How workers are run.

    :param processes: How many.
    :param command: What each runs.
    :param environment: Makes the environment of one, given its number and the descriptor that ends
        when the supervisor does.
    :param stop_timeout: Seconds that their handlers get.
    :param once: Whether a worker that ended by itself is not started again (``--burst``).
    :param max_memory: Bytes past which a worker is killed at one and a half times; 0: never.
    """

    processes: int
    command: Sequence[str]
    environment: Callable[[int, int], dict[str, str]]
    stop_timeout: float
    once: bool = False
    max_memory: int = 0
