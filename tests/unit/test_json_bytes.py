"""JSON by msgspec, value by value: what is written, read and refused."""

from __future__ import annotations

import math
import types
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from flask_redis_queue import codec
from flask_redis_queue.codec import encode_by_stdlib

from .json_values import (
    Colour,
    Count,
    Kind,
    Level,
    Line,
    Point,
    Weight,
    Word,
    circle,
    generator,
    nested,
    numbers,
    same_bytes,
    same_value,
    shape,
)

if not codec.FAST:
    pytest.skip('no msgspec here: pip install "Flask-Redis-Queue[fast]"', allow_module_level=True)


REFUSED: list[tuple[Any, type[Exception]]] = [
    (math.nan, ValueError),
    (math.inf, ValueError),
    (-math.inf, ValueError),
    ("\ud800", UnicodeEncodeError),
    ({"\udfff": 1}, UnicodeEncodeError),
    (10**5000, ValueError),
    (circle(), ValueError),
    (nested(100_000), RecursionError),
    (Decimal("1.1"), TypeError),
    (datetime(2026, 1, 2, tzinfo=UTC), TypeError),
    (date(2026, 1, 2), TypeError),
    (timedelta(1), TypeError),
    (uuid.UUID(int=1), TypeError),
    (Kind.A, TypeError),
    (b"x", TypeError),
    (bytearray(b"x"), TypeError),
    (memoryview(b"x"), TypeError),
    ({1}, TypeError),
    (frozenset({1}), TypeError),
    (Line(1), TypeError),
    (types.MappingProxyType({}), TypeError),
    (generator(), TypeError),
    ({}.keys(), TypeError),
    (object(), TypeError),
    (str, TypeError),
    ({(1, 2): 1}, TypeError),
    ({b"x": 1}, TypeError),
    ({uuid.UUID(int=1): 1}, TypeError),
    ({Kind.A: 1}, TypeError),
]


ACCEPTED: list[tuple[Any, bytes]] = [
    (1e16, b"1e+16"),
    (1e-5, b"1e-05"),
    (1e22, b"1e+22"),
    (5e-324, b"5e-324"),
    (9999999999999998.0, b"9999999999999998.0"),
    (0.0001, b"0.0001"),
    (-0.0, b"-0.0"),
    (2**63, b"9223372036854775808"),
    (-(2**64), b"-18446744073709551616"),
    (10**40, b"1" + b"0" * 40),
    ('\x00\x1f\x7f\u2028/\\"\n', '"\\u0000\\u001f\x7f\u2028/\\\\\\"\\n"'.encode()),
    ("ä\U0001f600", '"ä\U0001f600"'.encode()),
    ({7: 1, True: 2, None: 3, 1.5: 4}, b'{"7":1,"true":2,"null":3,"1.5":4}'),
    ({"1": 1, 1: 2}, b'{"1":1,"1":2}'),
    ((1, [2], ()), b"[1,[2],[]]"),
    (Point(1, 2), b"[1,2]"),
    (OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
    (defaultdict(list, {"a": [1]}), b'{"a":[1]}'),
    (Word("ä"), '"ä"'.encode()),
    ({Word("a"): Word("b")}, b'{"a":"b"}'),
    (Count(7), b"7"),
    (Weight(1.5), b"1.5"),
    (Level.LOW, b"1"),
    (Colour.RED, b'"red"'),
    ({Colour.RED: Level.LOW}, b'{"red":1}'),
    (True, b"true"),
    (None, b"null"),
    ({}, b"{}"),
    (nested(100), b"[" * 101 + b"]" * 101),
]


@pytest.mark.parametrize(("value", "error"), REFUSED, ids=numbers(REFUSED))
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"a": 1, "b": [{"c": v}]}])
def test_what_json_does_not_have_is_refused(
    value: Any, error: type[Exception], wrap: Callable[[Any], Any]
) -> None:
    """What msgspec would write as a string, a list or null is refused all the same."""
    assert error is same_bytes(wrap(value))[0]


@pytest.mark.parametrize(("value", "expected"), ACCEPTED, ids=numbers(ACCEPTED))
def test_bytes_are_those_of_the_stdlib(value: Any, expected: bytes) -> None:
    """Numbers, keys, escapes and subclasses are written in one way."""
    assert expected == encode_by_stdlib(value)
    assert expected == codec.encode_by_msgspec(value)
    assert b'{"a":[' + expected + b"]}" == codec.encode_by_msgspec({"a": [value]})


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", ValueError),
        (b"NaN", ValueError),
        (b'{"a":Infinity}', ValueError),
        (b'{"a":-Infinity}', ValueError),
        (b"1e999", ValueError),
        (b'{"a":-1e999}', ValueError),
        (b'{"a":1,"a":2}', ValueError),
        (b'{"a":1,"a":1}', ValueError),
        (b'[{"b":{"a":1,"c":2,"a":1}}]', ValueError),
        (b'{"a":1,"\\u0061":1}', ValueError),
        (b'"\\ud800"', UnicodeEncodeError),
        (b'{"\\uDFFF":1}', UnicodeEncodeError),
        (b'"\xed\xa0\x80"', UnicodeDecodeError),
        (b'"\xff"', UnicodeDecodeError),
        (b'{"\xc0\xaf":1}', UnicodeDecodeError),
        (b"9" * 4301, ValueError),
        (b'{"a":' + b"9" * 4301 + b"}", ValueError),
        (b"[" * 100_000, RecursionError),
        (b"[" * 50_000 + b"]" * 50_000, RecursionError),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, RecursionError),
        (b'"\x00"', ValueError),
        (b'"\t"', ValueError),
        (b"1\x00", ValueError),
        (b"\xef\xbb\xbf1", ValueError),
        (b"1 2", ValueError),
        (b"[1,]", ValueError),
        (b'{"a":1,}', ValueError),
        (b"{'a':1}", ValueError),
        (b"01", ValueError),
        (b"1.", ValueError),
        (b".5", ValueError),
        (b"+1", ValueError),
        (b"-", ValueError),
        (b'"\\x"', ValueError),
        (b"// note\n1", ValueError),
        (b"tru", ValueError),
    ],
)
def test_bytes_that_are_refused(raw: bytes, error: type[Exception]) -> None:
    """What two readers may understand differently is refused, with one text."""
    assert error in same_value(raw)[0].__mro__[:3]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"-0", 0),
        (b"-0.0", -0.0),
        (b"1E5", 100000.0),
        (b"1e22", 1e22),
        (b"1.10", 1.1),
        (b"0.1000000000000000055511151231257827", 0.1),
        (b"2.2250738585072011e-308", 2.225073858507201e-308),
        (b"9007199254740993.0", 9007199254740992.0),
        (b"18446744073709551616", 2**64),
        (b"-9223372036854775809", -(2**63) - 1),
        (b"9" * 4300, 10**4300 - 1),
        (b'"\\u0000"', "\x00"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\x7f"', "\x7f"),
        (b' {"a" : [ 1 , 2 ] }\n', {"a": [1, 2]}),
        (b'{"":{"":[]}}', {"": {"": []}}),
        (b'{"specversion":1,"type":2}', {"specversion": 1, "type": 2}),
        (b"[" * 150 + b"]" * 150, nested(149)),
        (b"[" * 300 + b"]" * 300, nested(299)),
        (b"[" + b"{}," * 300 + b"{}]", [{}] * 301),
    ],
)
def test_bytes_that_are_read(raw: bytes, expected: Any) -> None:
    """Numbers in any form, escapes and blanks mean the same."""
    assert ("value", shape(expected)) == same_value(raw)
