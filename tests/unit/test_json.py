"""JSON by msgspec: the same bytes, the same values and the same refusals as by the stdlib."""

from __future__ import annotations

import json
import math
import types
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_redis_queue import codec
from flask_redis_queue.codec import decode_by_stdlib, encode_by_stdlib
from flask_redis_queue.envelope import Delivery, Malformed, Message, decode, encode

from ..apps import GOODS

if not codec.FAST:
    pytest.skip('no msgspec here: pip install "Flask-Redis-Queue[fast]"', allow_module_level=True)
MANY = settings(max_examples=300, deadline=None, database=None)


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


FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(1e-6, 1e18),
    st.decimals(-(10**17), 10**17, places=3).map(float),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), FLOATS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=25,
)
ODD = st.one_of(
    st.floats(),
    st.text(st.characters(codec=None)),
    st.binary(),
    st.decimals(),
    st.datetimes(),
    st.uuids(),
    st.sampled_from([Kind.A, Level.LOW, Colour.RED, Word("w"), Count(3), Line(1), Point(1, 2)]),
)
KEYS = st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.uuids())
ODD_VALUES = st.recursive(
    st.one_of(VALUES, ODD),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(st.integers(), max_size=2),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=10,
)


@MANY
@given(VALUES)
def test_any_json_value_travels_alike(value: Any) -> None:
    """Both write one value as the same bytes, and read these as the same value."""
    same_bytes(value)
    assert ("value", shape(value)) == same_value(encode_by_stdlib(value))


@MANY
@given(ODD_VALUES)
def test_any_other_value_is_treated_alike(value: Any) -> None:
    """Both write it as the same bytes, or refuse it with the same words."""
    same_bytes(value)


@MANY
@given(FLOATS)
@example(0.0001)
@example(math.nextafter(0.0001, 0))
@example(1e16)
@example(math.nextafter(1e16, 0))
def test_any_number_is_written_alike(value: float) -> None:
    """A number has one text, at the edges of the exponent too."""
    assert repr(value).encode() == codec.encode_by_msgspec(value)
    assert repr(-value).encode() == codec.encode_by_msgspec(-value)


@MANY
@given(VALUES, st.data())
def test_any_damage_is_treated_alike(value: Any, data: st.DataObject) -> None:
    """Bytes that are cut, doubled, changed or written in another style mean the same to both."""
    styles: list[dict[str, Any]] = [{}, {"indent": 1}, {"separators": (",", ":")}]
    style = data.draw(st.sampled_from(styles))
    raw = json.dumps(value, ensure_ascii=data.draw(st.booleans()), **style).encode()
    same_value(raw)
    at = data.draw(st.integers(0, len(raw)))
    to = data.draw(st.integers(at, min(len(raw), at + 8)))
    pieces = st.sampled_from([*b'{}[],:"\\eE+-.019 ntf', 0, 0xFF, 0xC3]).map(lambda n: bytes([n]))
    new = data.draw(st.one_of(st.binary(max_size=3), pieces, st.just(raw[at:to] * 2)))
    same_value(raw[:at] + new + raw[to:])


@MANY
@given(st.dictionaries(st.sampled_from(["a", "b", "ä", ""]), VALUES, min_size=1), st.data())
def test_a_key_that_stands_twice_is_seen(value: dict[str, Any], data: st.DataObject) -> None:
    """An object that names a key twice is refused, whichever key, value and place."""
    key = data.draw(st.sampled_from(sorted(value)))
    again = encode_by_stdlib({key: data.draw(st.one_of(st.just(value[key]), VALUES))})
    raw = encode_by_stdlib(value)[:-1] + b"," + again[1:]
    assert (ValueError, "an object names the same key twice") == same_value(b'[{"x":' + raw + b"}]")


@MANY
@given(st.text('[]{}":,1ae', max_size=12).map(str.encode))
def test_any_punctuation_is_treated_alike(raw: bytes) -> None:
    """Short strings of JSON's own signs are accepted or refused alike."""
    same_value(raw)


def test_the_envelope_is_written_and_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event, a bare payload, and a bare payload that looks like an event."""
    moment = datetime(2026, 11, 24, 14, 2, 11, tzinfo=UTC)
    sent = Message("1", "stock.supplied", "q", GOODS, "supply", moment, moment, {"tenant": "n"})
    lookalike = Message("1", None, "q", {"specversion": "1.0", "type": "t"})
    done = []
    for name in ("stdlib", "msgspec"):
        for side in ("encode", "decode"):
            work = getattr(codec, f"{side}_by_{name}")
            monkeypatch.setattr(f"flask_redis_queue.envelope.{side}_json", work)
        raw = [encode(sent, "cloudevents"), encode(sent, "plain"), encode(lookalike, "plain")]
        read = [decode(Delivery("q", "1-1", "c:1-1", 0, 0, 0, one)) for one in raw[:2]]
        with pytest.raises(Malformed, match='the event has no "id"'):
            decode(Delivery("q", "1-1", "c:1-1", 0, 0, 0, raw[2]))
        done.append((raw, read))
    assert done[0] == done[1]


def test_msgspec_is_used_where_it_is_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A usual event never reaches the standard library, or all this would be for nothing."""
    event = {"id": "1", "time": None, "data": {**GOODS, "price": 9.99, "tags": ["ä", True]}}
    raw = encode_by_stdlib(event)
    monkeypatch.delattr(codec, "decode_by_stdlib")
    monkeypatch.delattr(codec, "encode_by_stdlib")
    assert raw == codec.encode_json(event)
    assert event == codec.decode_json(raw)
