"""docs/wire-format.md: the golden files, and the CloudEvents SDK in both directions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from flask_redis_queue.envelope import Delivery, Message, decode, encode

from ..apps import GOODS

GOLDEN = Path(__file__).resolve().parents[2] / "docs" / "golden"
SENT = Message(
    id="01932c3e-8a00-7000-8000-000000000001",
    type="stock.supplied",
    queue="inventory_updates",
    data=GOODS,
    source="supply",
    time=datetime(2026, 11, 24, 14, 2, 11, tzinfo=UTC),
    expires=datetime(2026, 11, 24, 15, 2, 11, tzinfo=UTC),
    headers={"tenant": "north"},
)


@pytest.mark.parametrize("name", ["cloudevents", "plain"])
def test_golden_files(name: str) -> None:
    """What is written is byte for byte what the specification shows."""
    expected = (GOLDEN / f"{name}.json").read_bytes().rstrip(b"\n")
    assert expected == encode(SENT, name)  # type: ignore[arg-type]


def test_the_sdk_reads_what_we_write() -> None:
    """The CloudEvents SDK takes our bytes as a valid event."""
    event = JSONFormat().read(None, encode(SENT, "cloudevents"))
    assert (SENT.id, SENT.type, SENT.source) == (
        event.get_id(),
        event.get_type(),
        event.get_source(),
    )
    assert (GOODS, "north") == (event.get_data(), event.get_extension("tenant"))


def test_we_read_what_the_sdk_writes() -> None:
    """We take an event that the SDK wrote."""
    attributes = {"id": "1", "source": "/sdk", "type": "stock.supplied", "specversion": "1.0"}
    attributes["datacontenttype"] = "application/json"
    raw = JSONFormat().write(CloudEvent(attributes, GOODS))
    message = decode(Delivery("q", "1-1", "c:1-1", 0, 0, 0, raw))
    assert ("1", "/sdk", GOODS) == (message.id, message.source, message.data)
