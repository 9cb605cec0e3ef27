"""What the inventory service does when it is told something; ``flask consume`` imports this."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CursorResult, update
from sqlalchemy.exc import IntegrityError, OperationalError

from ..contracts import StockSupplied
from .extensions import db, queue
from .models import Storage


# A database that is away is not the message's fault: the queue rests until it is back.
@queue.handler(StockSupplied, pause_on=OperationalError)
def add_to_storage(supplied: dict[str, Any]) -> None:
    """Add what was delivered to its storage.

    :param supplied: What ``StockSupplied`` loaded.
    """
    place = {name: supplied[name] for name in ("product_code", "warehouse_name")}
    quantity = supplied["quantity"]
    if not _add(place, quantity):
        try:
            with db.session.begin_nested():
                db.session.add(Storage(**place, quantity=quantity))
        except IntegrityError:  # another consumer made the row in the meantime
            _add(place, quantity)
    db.session.commit()


def _add(place: dict[str, str], quantity: int) -> bool:
    # The database adds, so that two consumers never overwrite each other's sum.
    statement = update(Storage).filter_by(**place).values(quantity=Storage.quantity + quantity)
    result = db.session.execute(statement)
    return isinstance(result, CursorResult) and result.rowcount > 0
