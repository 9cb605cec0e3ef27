"""What one consumer drains, beside a bare BRPOP + json.loads + Schema.load loop of the same run.

``make bench``, or ``python benchmarks/drain.py --messages 50000``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from typing import Any

import redis
from flask import Flask
from marshmallow import Schema, fields

from flask_redis_queue import RedisQueue, message
from flask_redis_queue.server import EmbeddedServer

GOODS = {"product_code": "PROD001", "warehouse_name": "Main_Warehouse", "quantity": 100}


@message("stock.supplied", queue="inventory_updates")
class StockSupplied(Schema):
    """The contract of the comparison."""

    product_code = fields.String(required=True)
    warehouse_name = fields.String(required=True)
    quantity = fields.Integer(required=True, strict=True)


def bare(client: redis.Redis, count: int) -> float:
    """:return: Messages a second of the loop that people write by hand: lost on a crash."""
    client.lpush("bare", *[json.dumps(GOODS)] * count)
    schema, total = StockSupplied(), 0
    started = time.perf_counter()
    for _ in range(count):
        popped: Any = client.brpop(["bare"], timeout=1)
        total += schema.load(json.loads(popped[1]))["quantity"]
    assert total == 100 * count
    return count / (time.perf_counter() - started)


def ours(url: str, count: int) -> tuple[float, float, float]:
    """:return: Messages a second: ``send``, ``send_many``, one consumer."""
    app = Flask("bench")
    app.config["REDIS_URL"] = url
    queue = RedisQueue(app)
    handled: list[int] = []

    @queue.handler(StockSupplied)
    def handle(supplied: dict[str, Any]) -> None:
        handled.append(supplied["quantity"])

    few = min(5000, count)
    with app.app_context():
        started = time.perf_counter()
        for _ in range(few):
            queue.send(StockSupplied, GOODS)
        one_by_one = few / (time.perf_counter() - started)
        started = time.perf_counter()
        queue.send_many(StockSupplied, [GOODS] * (count - few))
        bulk = (count - few) / (time.perf_counter() - started) if count > few else 0.0
    started = time.perf_counter()
    queue.consumer(app, burst=True).run()
    drained = count / (time.perf_counter() - started)
    assert count == len(handled)
    return one_by_one, bulk, drained


def main() -> int:
    """Print the figures of one run.

    :return: 1 if one consumer drains less than ``--at-least`` times what the bare loop does.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--at-least", type=float, default=0.0, metavar="TIMES")
    options = parser.parse_args()
    count = options.messages
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(folder, port=0) as url:
        loop = bare(redis.Redis.from_url(url), count // 5)
        one_by_one, bulk, drained = ours(url, count)
    print(f"bare BRPOP + json.loads + Schema.load   {loop:>10,.0f} /s   lost on a crash")
    print(f"flask consume, one thread               {drained:>10,.0f} /s   {drained / loop:.1f} x")
    print(f"queue.send                              {one_by_one:>10,.0f} /s")
    print(f"queue.send_many                         {bulk:>10,.0f} /s")
    return int(drained < options.at_least * loop)


if __name__ == "__main__":
    sys.exit(main())
