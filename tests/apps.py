"""The app that most tests use."""

from __future__ import annotations

from typing import Any

from flask import Flask
from marshmallow import Schema, fields

from flask_redis_queue import RedisQueue, message

QUEUE = "inventory_updates"
GOODS = {"product_code": "PROD001", "warehouse_name": "Main_Warehouse", "quantity": 100}


send_timeout = "2s"
"""A machine that is busy with other tests is not a Redis that is away."""


@message("stock.supplied", queue=QUEUE)
class StockSupplied(Schema):
    """The contract of the tests."""

    product_code = fields.String(required=True)
    warehouse_name = fields.String(required=True)
    quantity = fields.Integer(required=True, strict=True)


def make_app(url: str, **config: Any) -> tuple[Flask, RedisQueue]:
    """:return: An app and its queue."""
    app = Flask("tests.app")
    app.config.update({"REDIS_QUEUE_SEND_TIMEOUT": send_timeout, "REDIS_URL": url, **config})
    return app, RedisQueue(app, contracts=StockSupplied)
