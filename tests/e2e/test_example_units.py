"""The example's services by themselves, tested as their own team would: no server runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from example_app.contracts import StockSupplied
from example_app.inventory import create_app as create_inventory
from example_app.inventory.extensions import db as inventory_db
from example_app.inventory.models import Storage
from example_app.supply import create_app as create_supply
from example_app.supply.extensions import db as supply_db
from flask_redis_queue.testing import QueueTester

GOODS = {"product_code": "PROD001", "warehouse_name": "Main_Warehouse"}


class TestSupply:
    """The service that sends."""

    @pytest.fixture
    def app(self, tmp_path: Path) -> Iterator[Flask]:
        """With an empty database."""
        app = create_supply({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/supply.sqlite"})
        yield app
        with app.app_context():
            supply_db.engine.dispose()

    def test_a_delivery_is_told(self, app: Flask, redis_queue: QueueTester) -> None:
        """What was recorded is what is sent."""
        delivery = {**GOODS, "quantity": 5, "supplier_name": "Acme"}
        answer = app.test_client().post("/supplytransactions", json=delivery)
        sent = redis_queue.assert_sent(StockSupplied, **GOODS, quantity=5)
        assert sent.id == answer.get_json()["message_id"]

    def test_a_refused_delivery_is_not_told(self, app: Flask, redis_queue: QueueTester) -> None:
        """Bad input sends nothing."""
        answer = app.test_client().post("/supplytransactions", json={**GOODS, "quantity": 5.7})
        assert 400 == answer.status_code
        redis_queue.assert_not_sent()


class TestInventory:
    """The service that handles."""

    @pytest.fixture
    def app(self, tmp_path: Path) -> Iterator[Flask]:
        """With an empty database."""
        uri = f"sqlite:///{tmp_path}/inventory.sqlite"
        app = create_inventory({"SQLALCHEMY_DATABASE_URI": uri})
        yield app
        with app.app_context():
            inventory_db.engine.dispose()

    def test_goods_are_added(self, redis_queue: QueueTester) -> None:
        """A row that the test holds is the handler's, too: there is one session."""
        storage = Storage(**GOODS, quantity=1)
        inventory_db.session.add(storage)
        inventory_db.session.commit()
        redis_queue.perform(StockSupplied, {**GOODS, "quantity": 5})
        assert storage in inventory_db.session
        assert 6 == storage.quantity

    def test_a_database_that_is_away_costs_nothing(self, redis_queue: QueueTester) -> None:
        """The message is tried again without counting a run, and is applied once."""
        redis_queue.send(StockSupplied, {**GOODS, "quantity": 5})
        redis_queue.fail_next(OperationalError("UPDATE storage", {}, Exception("locked")))
        tally = redis_queue.drain()
        assert (1, 0, 0) == (tally.handled, tally.retried, tally.dead)
        storage = inventory_db.session.scalars(select(Storage)).one()
        assert 5 == storage.quantity
