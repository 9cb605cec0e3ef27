"""``flask consume`` and ``flask queue …``."""

from .consume import consume
from .queue import queue

__all__ = ["consume", "queue"]
