"""Kinds of values that options take."""

from __future__ import annotations

import re
from typing import Any

import click

from ..durations import seconds


class DurationParam(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Seconds, or text such as ``30s`` or ``5m``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Turn what was typed into seconds."""
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, context)


class SizeParam(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Bytes, or text such as ``512M`` or ``2G``."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        """Turn what was typed into bytes."""
        match = re.fullmatch(r"([0-9]{1,15})\s*([kKmMgG]?)(?:i?[bB])?", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no size. Use bytes, or text such as 512M or 2G.")
        power: int = " kmg".index(match[2].lower() or " ")
        return int(match[1]) * int(1024**power)


DURATION = DurationParam()
SIZE = SizeParam()
