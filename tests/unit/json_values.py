"""What the tests of JSON compare, and odd values."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import Any

from flask_redis_queue import codec
from flask_redis_queue.codec import decode_by_stdlib, encode_by_stdlib


def outcome(work: Callable[[Any], Any], given: Any) -> tuple[Any, ...]:
    """:return: What comes out, with the type of each part; or which error with which text."""
    try:
        value = work(given)
    except (TypeError, ValueError, RecursionError) as error:
        # How deep it was, and in what, is said in words that depend on the depth.
        return type(error), None if isinstance(error, RecursionError) else str(error)
    return "value", shape(value)


def shape(value: Any) -> Any:
    """:return: The value with its types: 1, 1.0 and True are equal, and not the same."""
    if type(value) is dict:
        return dict, tuple((shape(k), shape(v)) for k, v in value.items())
    if type(value) is list:
        return list, tuple(map(shape, value))
    return type(value), repr(value)


def same_bytes(value: Any) -> tuple[Any, ...]:
    """:return: What both make of a value, after it was seen to be the same."""
    expected = outcome(encode_by_stdlib, value)
    assert expected == outcome(codec.encode_by_msgspec, value)
    return expected


def same_value(raw: bytes) -> tuple[Any, ...]:
    """:return: What both make of bytes, after it was seen to be the same."""
    expected = outcome(decode_by_stdlib, raw)
    assert expected == outcome(codec.decode_by_msgspec, raw)
    return expected


class Word(str):
    """A string of a class of its own."""


class Count(int):
    """A number of a class of its own, which reads differently."""

    def __repr__(self) -> str:
        return "many"


class Weight(float):
    """A number with a fraction, of a class of its own."""


class Kind(Enum):
    """An enumeration that is no string."""

    A = "a"


class Level(IntEnum):
    """An enumeration that is a number."""

    LOW = 1


class Colour(StrEnum):
    """An enumeration that is a string."""

    RED = "red"


@dataclass
class Line:
    """A dataclass."""

    quantity: int


Point = namedtuple("Point", "x y")


def circle() -> list[Any]:
    """:return: A list that holds itself."""
    ring: list[Any] = []
    ring.append({"again": ring})
    return ring


def nested(depth: int) -> list[Any]:
    """:return: Lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def generator() -> Iterator[int]:
    """:return: Numbers, one at a time."""
    yield 1


def numbers(cases: list[Any]) -> list[str]:
    """:return: Names of cases: their values are too long, too deep or too odd for that."""
    return [str(number) for number in range(len(cases))]
