"""Durations as people write them: ``30``, ``"5m"``, ``timedelta(hours=1)``."""

from __future__ import annotations

import math
import re
from datetime import timedelta

Duration = float | int | str | timedelta
"""Seconds as a number, a :class:`~datetime.timedelta`, or text such as ``"250ms"`` or ``"2d"``."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 36_525 * 86_400.0
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", re.ASCII)


def seconds(value: Duration, *, name: str = "duration") -> float:
    """Turn a duration into seconds.

    :param value: Seconds, a ``timedelta``, or text: a number with ``ms``, ``s``, ``m``, ``h`` or
        ``d`` behind it. A bare number is seconds.
    :param name: What the value is called in the error.
    :return: Seconds, not negative.
    :raises ValueError: If it is none of these, negative, or more than a hundred years.
    """
    if isinstance(value, timedelta):
        found = value.total_seconds()
    elif isinstance(value, str):
        match = _TEXT.fullmatch(value)
        if match is None:
            raise ValueError(f"{name} is {value!r}. {_ALLOWED}")
        found = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found = float(value)
    else:
        raise ValueError(f"{name} is {value!r}. {_ALLOWED}")
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"{name} is {value!r}. {_ALLOWED}")
    if found > _LONGEST:
        raise ValueError(f"{name} is {value!r}. Use at most a hundred years.")
    return found


def text(value: float) -> str:
    """Write seconds the way :func:`seconds` reads them, in the largest unit that stays short.

    :param value: Seconds.
    :return: For example ``"250ms"``, ``"2s"``, ``"10m"``.
    """
    if value < 0.9995:
        return f"{value * 1000:.0f}ms"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if value >= size and value % size == 0:
            return f"{value / size:.0f}{unit}"
    return f"{value:.3g}s" if value < 100 else f"{value:.0f}s"


_ALLOWED = 'Use seconds, a timedelta, or text such as "250ms", "30s", "5m", "1h", "2d".'
