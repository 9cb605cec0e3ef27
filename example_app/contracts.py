"""All that the two services share."""

from marshmallow import Schema, fields, validate

from flask_redis_queue import message


@message("stock.supplied", queue="inventory_updates")
class StockSupplied(Schema):
    """Goods have arrived at a warehouse."""

    product_code = fields.String(required=True, validate=validate.Length(1, 64))
    warehouse_name = fields.String(required=True, validate=validate.Length(1, 64))
    quantity = fields.Integer(required=True, strict=True, validate=validate.Range(1, 10**9))
