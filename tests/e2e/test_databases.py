"""The example's two services on real PostgreSQL and MariaDB, with several processes at once."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import MetaData, NullPool, create_engine, event, insert

from example_app.contracts import StockSupplied
from example_app.inventory import create_app as create_inventory
from example_app.inventory.extensions import db as inventory_db
from example_app.inventory.extensions import queue as inventory_queue
from example_app.inventory.models import Storage
from example_app.supply import create_app as create_supply
from example_app.supply.extensions import db as supply_db
from example_app.supply.extensions import queue as supply_queue
from flask_redis_queue.inspector import QueueStatus
from flask_redis_queue.server import WATCH

from ..conftest import eventually
from ..databases import DatabaseServer, MariaDB, PostgreSQL

ROOT = Path(__file__).resolve().parents[2]
PLACES = [
    {"product_code": product, "warehouse_name": warehouse}
    for product in ("BOLT-M8", "bolt-m8")
    for warehouse in ("Main_Warehouse", "North_Hall")
]
AWAY = float(os.environ.get("AWAY", "5"))
"""For how many seconds the database is away."""
_numbers = itertools.count(1)


class Shop:
    """Both services on one database server: as apps here, and as commands in other processes."""

    def __init__(self, server: DatabaseServer, redis_url: str, folder: Path) -> None:
        self.server, self._redis_url, self._folder = server, redis_url, folder
        number = next(_numbers)
        self.urls = {name: server.create(f"{name}_{number}") for name in ("supply", "inventory")}
        self._running = ExitStack()

    def apps(self) -> tuple[Flask, Flask]:
        """:return: The supply and the inventory service."""
        supply = create_supply(self._config("supply"))
        self._running.callback(_close, supply, supply_db)
        inventory = create_inventory(self._config("inventory"))
        self._running.callback(_close, inventory, inventory_db)
        return supply, inventory

    def start(self, service: str, *arguments: str) -> subprocess.Popen[bytes]:
        """:return: A running ``flask`` command, which ends with this process."""
        command = [sys.executable, "-m", "flask", "--app", f"example_app.{service}", *arguments]
        environ = {"DATABASE_URL": self.urls[service], "REDIS_URL": self._redis_url}
        with self.log.open("ab") as out:
            process = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, *command],
                cwd=ROOT,
                env={**os.environ, **environ, "REDIS_QUEUE_PREFETCH": "1"},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
            )
        self._running.enter_context(process)  # waits for it
        self._running.callback(process.kill)
        return process

    @property
    def log(self) -> Path:
        """:return: What all commands have printed."""
        return self._folder / "log"

    def ends(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until a command has done what it had to do."""
        assert 0 == process.wait(60), self.log.read_text()

    def close(self) -> None:
        """End what still runs."""
        self._running.close()

    def _config(self, service: str) -> dict[str, str]:
        # A machine that is busy with other tests is not a Redis that is away.
        calm = {"REDIS_URL": self._redis_url, "REDIS_QUEUE_SEND_TIMEOUT": "10s"}
        return {"SQLALCHEMY_DATABASE_URI": self.urls[service], **calm}


@pytest.fixture(scope="module", params=[PostgreSQL, MariaDB], ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """Each database server, for all tests of this file."""
    if reason := request.param.missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with request.param() as started:
        yield started


@pytest.fixture
def shop(server: DatabaseServer, redis_url: str, tmp_path: Path) -> Iterator[Shop]:
    """Both services on empty databases."""
    made = Shop(server, redis_url, tmp_path)
    yield made
    made.close()


def test_two_consumers_drain_what_was_posted(shop: Shop) -> None:
    """Forty deliveries to four places that are new stand in the stock, drained by two processes."""
    supply, inventory = shop.apps()
    posted: Counter[tuple[str, str]] = Counter()
    for number in range(40):
        place = PLACES[number % len(PLACES)]
        _post(supply, **place, quantity=number + 1)
        posted[place["product_code"], place["warehouse_name"]] += number + 1
    _drain_by_two(shop, inventory, "rollback")
    assert posted == _stock(inventory)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_new_row_made_twice_loses_nothing(shop: Shop, end: str) -> None:
    """Two consumers in the midst of one new row: all is added, whoever makes it."""
    supply, inventory = shop.apps()
    for quantity in (5, 7):
        _post(supply, **PLACES[0], quantity=quantity)
    _drain_by_two(shop, inventory, end)
    assert 12 == _stock(inventory)["BOLT-M8", "Main_Warehouse"]


def test_every_character_survives(shop: Shop) -> None:
    """Text of many scripts goes through both services; the columns hold what the schema allows."""
    supply, inventory = shop.apps()
    texts = {
        "product_code": "Šroub 8 × 40 '\"\\%_; ",
        "warehouse_name": "📦" * 64,
        "supplier_name": "Ωμέγα & 山田 – e\u0301",
        "note": "ž🔩" * 250,
    }
    _post(supply, **texts, quantity=1)
    listed = supply.test_client().get("/supplytransactions").get_json()["supplytransactions"]
    assert [texts] == [{name: one[name] for name in texts} for one in listed]
    inventory_queue.consumer(inventory, burst=True).run()
    assert {(texts["product_code"], texts["warehouse_name"]): 1} == _stock(inventory)


def test_what_the_database_would_refuse_is_refused_before(shop: Shop) -> None:
    """A NUL is a 400 of either service, and the largest offset that passes is an empty page."""
    supply, inventory = (app.test_client() for app in shop.apps())
    body = {**PLACES[0], "quantity": 1, "supplier_name": "Acme", "note": "a\0b"}
    assert 400 == supply.post("/supplytransactions", json=body).status_code
    assert 400 == inventory.get("/storages?product_code=a%00b").status_code
    answer = supply.get(f"/supplytransactions?offset={2**63 - 1}")
    assert {"supplytransactions": []} == answer.get_json()


def test_services_that_start_at_once_share_their_tables(shop: Shop) -> None:
    """Two processes of each service on an empty database make its tables once."""
    commands = [shop.start(service, "routes") for service in ("supply", "inventory") * 2]
    for command in commands:
        shop.ends(command)
    supply, inventory = shop.apps()
    _post(supply, **PLACES[0], quantity=3)
    inventory_queue.consumer(inventory, burst=True).run()
    assert 3 == _stock(inventory)["BOLT-M8", "Main_Warehouse"]


def test_the_database_is_away(shop: Shop) -> None:
    """500 messages wait for it: none is lost, tried in vain to its end, or added twice."""
    supply, inventory = shop.apps()
    consumer = shop.start("inventory", "consume", "-q")
    inspector = inventory.extensions["redis_queue"].inspector

    def status() -> QueueStatus:
        found: QueueStatus = inspector.status("inventory_updates")
        return found

    eventually(lambda: status().consumers, "it consumes")
    shop.server.stop()
    with supply.app_context():
        supply_queue.send_many(StockSupplied, [{**PLACES[0], "quantity": 1}] * 500)
    eventually(lambda: "inventory_updates rests" in shop.log.read_text(), "its queue rests")
    time.sleep(AWAY)  # how long it is away is the point
    now = status()
    assert (500, 0, 0) == (now.waiting + now.held, now.dead, now.delayed), shop.log.read_text()
    shop.server.start()
    began = time.monotonic()
    eventually(lambda: status().ledger.get("handled") == 500, "all are handled", 90)
    print(f"away for {AWAY:g}s; all handled {time.monotonic() - began:.1f}s after its return")
    consumer.send_signal(signal.SIGTERM)
    shop.ends(consumer)
    log, now = shop.log.read_text(), status()
    assert 500 == _stock(inventory)["BOLT-M8", "Main_Warehouse"]
    assert (0, 0, 0) == (now.dead, now.missing, now.ledger.get("retried", 0)), log
    assert (1, 1) == (log.count("rests: OperationalError"), log.count("goes on after")), log


def test_a_table_made_in_the_same_moment_is_taken(shop: Shop) -> None:
    """A table that appears between the look and its creation stops no service."""
    others = create_engine(shop.urls["inventory"], poolclass=NullPool)

    made: list[object] = []

    def make_it_first(metadata: MetaData, connection: object, **options: object) -> None:
        made.append(connection)
        metadata.create_all(others)

    event.listen(inventory_db.metadata, "before_create", make_it_first, once=True)
    _, inventory = shop.apps()
    assert 1 == len(made)
    assert {} == _stock(inventory)


def _drain_by_two(shop: Shop, inventory: Flask, end: str) -> None:
    """Let two processes begin in the same moment: when a third lets go of the rows they want."""
    engine = create_engine(shop.urls["inventory"], poolclass=NullPool)
    with engine.connect() as holder:
        holder.execute(insert(Storage), [{**place, "quantity": 0} for place in PLACES])
        consumers = [shop.start("inventory", "consume", "--burst") for _ in range(2)]

        def both_wait() -> bool:
            assert [None, None] == [one.poll() for one in consumers], shop.log.read_text()
            return 2 == shop.server.waiting()

        eventually(both_wait, "both consumers wait for a row")
        getattr(holder, end)()
    for consumer in consumers:
        shop.ends(consumer)
    inspector = inventory.extensions["redis_queue"].inspector
    again = inspector.status("inventory_updates").delayed
    # MariaDB ends one of two transactions that wait for each other; it comes again when it is due.
    assert 0 == again or shop.server.name == "mariadb", shop.log.read_text()
    while inspector.status("inventory_updates").delayed:
        inventory_queue.consumer(inventory, max_messages=1, max_seconds=20).run()
    status = inspector.status("inventory_updates")
    left = (status.waiting, status.delayed, status.held, status.dead, status.missing)
    assert (0, 0, 0, 0, 0) == left, shop.log.read_text()


def _post(supply: Flask, **fields: Any) -> None:
    body = {"supplier_name": "Acme", **fields}
    answer = supply.test_client().post("/supplytransactions", json=body)
    assert 201 == answer.status_code, answer.get_data(as_text=True)


def _stock(inventory: Flask) -> dict[tuple[str, str], int]:
    found = inventory.test_client().get("/storages").get_json()["storages"]
    return {(one["product_code"], one["warehouse_name"]): one["quantity"] for one in found}


def _close(app: Flask, db: Any) -> None:
    # A pooled connection that nobody closes is a ResourceWarning, and so a failed test.
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
