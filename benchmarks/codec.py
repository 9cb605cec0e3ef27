"""Microseconds to encode and decode one message, by the standard library and by msgspec.

``python benchmarks/codec.py``; it needs the ``fast`` extra.
"""

from __future__ import annotations

import argparse
import json
import sys
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from flask_redis_queue import codec
from flask_redis_queue.envelope import Delivery, Message, decode, encode

GOODS = {"product_code": "PROD001", "warehouse_name": "Main_Warehouse", "quantity": 100}
MESSAGE = Message(
    id="01932c3e-8a00-7000-8000-000000000001",
    type="stock.supplied",
    queue="inventory_updates",
    data=GOODS,
    source="supply",
    time=datetime(2026, 11, 24, 14, 2, 11, tzinfo=UTC),
)


def rows() -> list[tuple[str, Any, bytes]]:
    """:return: What is measured: a name, the value, and its bytes."""
    event = encode(MESSAGE, "cloudevents")
    value = codec.decode_by_stdlib(event)
    exponent = {**value, "data": {**GOODS, "price": 1e-7}}
    lines = {**value, "data": {"lines": [{**GOODS, "price": 9.99}] * 100}}
    return [
        ("CloudEvent", value, event),
        ("CloudEvent, blanks", value, json.dumps(value).encode()),
        ("CloudEvent, 1e-07", exponent, codec.encode_by_stdlib(exponent)),
        ("CloudEvent, 100 lines", lines, codec.encode_by_stdlib(lines)),
    ]


def microseconds(work: Callable[[], object], repeats: int) -> float:
    """:return: What one call takes: the best of some rounds, for others only add to it."""
    timer = timeit.Timer(work)
    number = max(1, int(0.02 / max(1e-7, timer.timeit(5) / 5)))
    return min(timer.repeat(repeats, number)) / number * 1e6


def main() -> int:
    """Print a table.

    :return: 1 without msgspec.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    if not codec.FAST:
        print('No msgspec here: pip install "Flask-Redis-Queue[fast]"')
        return 1
    print(f"{'µs':<24}{'encode: json':>14}{'msgspec':>9}{'decode: json':>16}{'msgspec':>9}")
    for name, value, raw in rows():
        took = [
            microseconds(partial(codec.encode_by_stdlib, value), repeats),
            microseconds(partial(codec.encode_by_msgspec, value), repeats),
            microseconds(partial(codec.decode_by_stdlib, raw), repeats),
            microseconds(partial(codec.decode_by_msgspec, raw), repeats),
        ]
        print(f"{name:<24}{took[0]:>14.2f}{took[1]:>9.2f}{took[2]:>16.2f}{took[3]:>9.2f}")
    delivery = Delivery("inventory_updates", "1-1", "c:1-1", 0, 0, 0, rows()[0][2])
    whole = [
        microseconds(lambda: encode(MESSAGE, "cloudevents"), repeats),
        microseconds(lambda: decode(delivery), repeats),
    ]
    print(f"The whole envelope, by msgspec: encode {whole[0]:.2f}, decode {whole[1]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
