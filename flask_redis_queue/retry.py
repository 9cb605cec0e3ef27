"""When a failed message comes again. A policy decides; it never sleeps and never touches Redis."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from .durations import Duration, seconds, text


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with an end.

    :param max_attempts: Runs in all, the first one included; 1 means never again.
    :param min: The first wait.
    :param max: The longest wait.
    :param factor: Each wait is the one before times this.
    :param jitter: Spread each wait over its upper half, so that messages that failed together do
        not come back together.
    :raises ValueError: If a value makes no sense.
    """

    max_attempts: int = 10
    min: Duration = "1s"
    max: Duration = "10m"
    factor: float = 3
    jitter: bool = True
    _min: float = field(init=False, repr=False, compare=False)
    _max: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise ValueError(f"max_attempts is {self.max_attempts!r}. Use a whole number from 1.")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}. Use a whole number from 1.")
        if not isinstance(self.factor, (int, float)) or not 1 <= self.factor <= 1000:
            raise ValueError(f"factor is {self.factor!r}. Use a number from 1 to 1000.")
        object.__setattr__(self, "_min", seconds(self.min, name="min"))
        object.__setattr__(self, "_max", seconds(self.max, name="max"))
        if self._max < self._min:
            raise ValueError(f"max ({self.max!r}) is less than min ({self.min!r}).")

    def __call__(self, attempt: int, error: BaseException) -> float | None:
        """Decide after a failure.

        :param attempt: The attempt that failed, from 1.
        :param error: What the handler raised.
        :return: Seconds to wait, or ``None``: never again.
        """
        if attempt >= self.max_attempts:
            return None
        # The exponent is bounded, for factor ** attempt overflows long before attempts run out.
        wait = min(self._max, self._min * self.factor ** min(attempt - 1, 64))
        return wait * random.uniform(0.5, 1.0) if self.jitter else wait

    def __str__(self) -> str:
        if self.max_attempts == 1:
            return "1 try"
        return f"{self.max_attempts} tries, {text(self._min)} to {text(self._max)}"


RetryCallable = Callable[[int, BaseException], Duration | None]
RetryOption = RetryPolicy | RetryCallable | int | None


def as_policy(option: RetryOption, default: RetryPolicy) -> RetryPolicy | RetryCallable:
    """Turn what a user may give as ``retry=`` into a policy.

    :param option: A policy, a callable ``(attempt, error) -> delay or None``, a number of attempts,
        or ``None`` for the default.
    :param default: The app's policy.
    :return: Something to call with ``(attempt, error)``.
    :raises ValueError: If it is none of these.
    """
    if option is None:
        return default
    if isinstance(option, int) and not isinstance(option, bool):
        return RetryPolicy(option, default.min, default.max, default.factor, default.jitter)
    if callable(option):
        return option
    raise ValueError(
        f"retry is {option!r}. Use a RetryPolicy, a function (attempt, error) -> delay or None, "
        "or a number of attempts."
    )
