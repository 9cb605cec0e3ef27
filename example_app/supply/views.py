"""The HTTP face of the supply service."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from marshmallow import Schema, fields, validate
from sqlalchemy import select
from werkzeug.exceptions import BadRequest

from flask_redis_queue import RedisQueueError

from ..contracts import StockSupplied
from ..database import LARGEST_INTEGER, storable
from .extensions import db, queue
from .models import SupplyTransaction

bp = Blueprint("supply", __name__)


class SupplyTransactionSchema(Schema):
    """What a client posts, and gets back."""

    id = fields.Integer(dump_only=True)
    product_code = fields.String(required=True, validate=[validate.Length(1, 64), storable])
    warehouse_name = fields.String(
        load_default="Main_Warehouse", validate=[validate.Length(1, 64), storable]
    )
    quantity = fields.Integer(required=True, strict=True, validate=validate.Range(1, 10**9))
    supplier_name = fields.String(required=True, validate=[validate.Length(1, 128), storable])
    note = fields.String(load_default="", validate=[validate.Length(max=500), storable])
    created_at = fields.DateTime(dump_only=True)


class PageSchema(Schema):
    """Which part of a list a client wants."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, 500))
    offset = fields.Integer(load_default=0, validate=validate.Range(0, LARGEST_INTEGER))


_transaction = SupplyTransactionSchema()
_page = PageSchema()


@bp.get("/")
def index() -> ResponseReturnValue:
    """Say what there is."""
    return {"service": "supply", "endpoints": ["GET, POST /supplytransactions"]}


@bp.get("/supplytransactions")
def list_transactions() -> ResponseReturnValue:
    """List deliveries, newest first."""
    page = _page.load(request.args.to_dict())
    newest = select(SupplyTransaction).order_by(SupplyTransaction.id.desc())
    rows = db.session.scalars(newest.limit(page["limit"]).offset(page["offset"])).all()
    return {"supplytransactions": _transaction.dump(rows, many=True)}


@bp.post("/supplytransactions")
def create_transaction() -> ResponseReturnValue:
    """Record a delivery and tell the inventory service.

    The message leaves before the commit: when the queue is away, nothing is recorded either.
    """
    try:
        body = request.get_json()
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply.") from None
    transaction = SupplyTransaction(**_transaction.load(body))
    db.session.add(transaction)
    db.session.flush()
    try:
        sent = queue.send(
            StockSupplied,
            {
                "product_code": transaction.product_code,
                "warehouse_name": transaction.warehouse_name,
                "quantity": transaction.quantity,
            },
        )
    except RedisQueueError:
        db.session.rollback()
        raise
    db.session.commit()
    return {**_transaction.dump(transaction), "message_id": sent.id}, 201
