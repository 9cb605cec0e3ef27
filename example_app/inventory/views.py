"""The HTTP face of the inventory service."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from marshmallow import EXCLUDE, Schema, fields
from sqlalchemy import select

from ..database import storable
from .extensions import db
from .models import Storage

bp = Blueprint("inventory", __name__)


class StorageSchema(Schema):
    """One storage, and what a client may filter by."""

    class Meta:
        """Other query parameters are ignored."""

        unknown = EXCLUDE

    product_code = fields.String(validate=storable)
    warehouse_name = fields.String(validate=storable)
    quantity = fields.Integer(dump_only=True)


_storage = StorageSchema()


@bp.get("/")
def index() -> ResponseReturnValue:
    """Say what there is."""
    return {"service": "inventory", "endpoints": ["GET /storages"]}


@bp.get("/storages")
def list_storages() -> ResponseReturnValue:
    """List the stock, by product and warehouse."""
    wanted = _storage.load(request.args.to_dict())
    found = select(Storage).filter_by(**wanted)
    rows = db.session.scalars(found.order_by(Storage.product_code, Storage.warehouse_name)).all()
    return {"storages": _storage.dump(rows, many=True)}
