"""JSON by msgspec: the same bytes, the same values and the same refusals as by the stdlib."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_redis_queue import codec
from flask_redis_queue.codec import encode_by_stdlib
from flask_redis_queue.envelope import Delivery, Malformed, Message, decode, encode

from ..apps import GOODS
from .json_values import (
    Colour,
    Count,
    Kind,
    Level,
    Line,
    Point,
    Word,
    same_bytes,
    same_value,
    shape,
)

if not codec.FAST:
    pytest.skip('no msgspec here: pip install "Flask-Redis-Queue[fast]"', allow_module_level=True)
MANY = settings(max_examples=300, deadline=None, database=None)


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
