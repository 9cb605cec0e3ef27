"""Contracts, envelopes, durations, policies, configuration: no server."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from marshmallow import RAISE, Schema, ValidationError, fields, post_load

from flask_redis_queue import ConfigurationError, InvalidMessage, RetryPolicy, message
from flask_redis_queue.config import load
from flask_redis_queue.contracts import contract_of
from flask_redis_queue.durations import seconds
from flask_redis_queue.envelope import Delivery, Malformed, Message, decode, encode, new_id

from ..apps import GOODS, StockSupplied


def contract(schema: type[Schema]) -> Any:
    """:return: Its contract."""
    found = contract_of(schema)
    assert found is not None
    return found


def delivery(raw: bytes) -> Delivery:
    """:return: Bytes as a consumer gets them."""
    return Delivery("q", "1-1", "c:1-1", 0, 0, 0, raw)


@pytest.mark.parametrize("quantity", [5.7, "5", None, "x"])
def test_strict_integer_refuses(quantity: object) -> None:
    """A quantity that is no whole number is refused at send, never cut."""
    with pytest.raises(InvalidMessage) as caught:
        contract(StockSupplied).to_wire({**GOODS, "quantity": quantity})
    assert ["quantity"] == list(caught.value.messages)
    assert isinstance(caught.value, ValidationError)


def test_lax_integer_is_never_cut_either() -> None:
    """5.7 is refused for an Integer that is not strict, too."""

    @message("lax")
    class Lax(Schema):
        n = fields.Integer()

    with pytest.raises(InvalidMessage, match=r"lax not sent\. n: Not a valid integer\."):
        contract(Lax).to_wire({"n": 5.7})


def test_invalid_message_pickles_and_names_the_value() -> None:
    """The sentence names field and value, and survives another process."""
    with pytest.raises(InvalidMessage) as caught:
        contract(StockSupplied).to_wire({**GOODS, "quantity": "ten"})
    again = pickle.loads(pickle.dumps(caught.value))
    assert 'stock.supplied not sent. quantity: Not a valid integer. (got "ten")' == str(again)
    assert caught.value.messages == again.messages


def test_rich_values_make_the_round_trip() -> None:
    """What JSON has no type for is written by its field, and loads again; post_load runs once."""

    class Line(Schema):
        price = fields.Decimal()

    @message("order")
    class Order(Schema):
        at = fields.DateTime(data_key="placedAt")
        lines = fields.List(fields.Nested(Line))

        @post_load
        def made(self, data: dict[str, Any], **extra: Any) -> tuple[Any, ...]:
            return (data["at"], data["lines"][0]["price"])

    when = datetime(2026, 1, 2, 3, 4, 5)
    wire = contract(Order).to_wire({"placedAt": when, "lines": [{"price": Decimal("1.10")}]})
    assert (when, Decimal("1.10")) == contract(Order).load(json.loads(json.dumps(wire)))


def test_receiving_is_tolerant_at_every_depth() -> None:
    """An old consumer survives new fields, unless a Meta says otherwise; recursion ends."""

    class Node(Schema):
        name = fields.String()
        kids = fields.List(fields.Nested(lambda: Node()))

    class Strict(Schema):
        class Meta:
            unknown = RAISE

    @message("tree")
    class Tree(Schema):
        root = fields.Nested(Node)
        strict = fields.Nested(Strict)

    data = {"new": 1, "root": {"name": "a", "new": 1, "kids": [{"name": "b", "new": 2}]}}
    assert {"root": {"name": "a", "kids": [{"name": "b"}]}} == contract(Tree).load(data)
    with pytest.raises(ValidationError):
        contract(Tree).load({"strict": {"new": 1}})
    with pytest.raises(InvalidMessage):
        contract(Tree).to_wire(data)


def test_contract_refuses_one_way_fields() -> None:
    """A field that cannot make the round trip is refused where it is written."""
    with pytest.raises(ConfigurationError, match="dump_only"):

        @message("x")
        class X(Schema):
            id = fields.Integer(dump_only=True)


def test_subclass_is_no_contract() -> None:
    """@message is not inherited."""

    class Sub(StockSupplied):
        pass

    assert contract_of(Sub) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe{\x00}",
        b"{",
        b"",
        b"NaN",
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b"9" * 100_000,
        b'"\\ud800"',
        b'{"specversion": "0.3", "type": "t"}',
        b'{"specversion": "1.0", "type": "t"}',
        b'{"specversion": "1.0", "type": "t", "id": "1", "source": "s", "time": "soon"}',
        b'{"specversion": "1.0", "type": "t", "id": "1", "source": "s", "data_base64": "?"}',
    ],
)
def test_hostile_bytes_are_malformed(raw: bytes) -> None:
    """Whatever is no message is said to be none, and nothing else is raised."""
    with pytest.raises(Malformed):
        decode(delivery(raw))


def test_event_round_trip() -> None:
    """What encode writes, decode reads."""
    sent = Message(new_id(), "t", "q", {"a": "ä"}, "src", None, None, {"tenant": "x"})
    back = decode(delivery(encode(sent, "cloudevents")))
    assert (sent.id, "t", {"a": "ä"}, "src", {"tenant": "x"}) == (
        back.id,
        back.type,
        back.data,
        back.source,
        back.headers,
    )


def test_ids_are_uuid7() -> None:
    """An id has version 7 and the RFC's variant."""
    assert ("7", True) == (new_id()[14], new_id()[19] in "89ab")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3.0), ("250ms", 0.25), ("5m", 300.0), ("2d", 172800.0), (timedelta(hours=1), 3600.0)],
)
def test_durations(value: Any, expected: float) -> None:
    """Durations are read as people write them."""
    assert expected == seconds(value)


@pytest.mark.parametrize("value", ["", "5 minutes", -1, float("nan"), True, None])
def test_bad_durations(value: Any) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match="Use seconds"):
        seconds(value)


def test_retry_policy() -> None:
    """Waits grow to the limit and end; jitter stays in the upper half."""
    policy = RetryPolicy(4, "1s", "5s", jitter=False)
    error = ValueError()
    assert [1, 3, 5, None] == [policy(n, error) for n in (1, 2, 3, 4)]
    assert all(0.5 <= (RetryPolicy()(1, error) or 0) <= 1 for _ in range(50))


def test_config_sources() -> None:
    """app.config wins; its connection keys keep the environment's out; Kubernetes' is skipped."""
    environ = {"REDIS_URL": "redis://env/1", "REDIS_QUEUE_LEASE": "30s"}
    assert ("redis://env/1", 30.0) == (load({}, environ).url, load({}, environ).lease)
    assert "redis://app:6379/0" == load({"REDIS_HOST": "app"}, environ).url
    assert "redis://h:6379/0" == load({}, {"REDIS_HOST": "h", "REDIS_PORT": "tcp://1:2"}).url


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"REDIS_PORT": "x"}, r"REDIS_PORT \(from app.config\) is 'x'. Use a whole number"),
        ({"REDIS_PASSWORD": 12345678}, "Put quotes around it"),
        ({"REDIS_URL": "http://x"}, "Use a URL that begins with redis://"),
        ({"REDIS_QUEUE_FORMAT": "xml"}, "Use one of cloudevents, plain"),
        ({"REDIS_QUEUE_NAME": "a{b}"}, "A queue name is"),
    ],
)
def test_bad_config(settings: dict[str, Any], said: str) -> None:
    """A bad value names its key, where it came from, and what is allowed."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        load(settings, {})
    assert "12345678" not in str(caught.value)
