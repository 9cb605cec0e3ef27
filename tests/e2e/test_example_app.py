"""The two services of the example, over HTTP, with a real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from example_app.inventory import create_app as create_inventory
from example_app.inventory.extensions import db as inventory_db
from example_app.inventory.extensions import queue as inventory_queue
from example_app.inventory.handlers import add_to_storage
from example_app.supply import create_app as create_supply
from example_app.supply.extensions import db as supply_db

DELIVERY = {"product_code": "PROD001", "quantity": 100, "supplier_name": "Acme"}
# A machine that is busy with other tests is not a Redis that is away.
CALM = {"REDIS_QUEUE_SEND_TIMEOUT": "10s"}
SUPPLIED = {"product_code": "PROD001", "warehouse_name": "Main_Warehouse", "quantity": 5}


@pytest.fixture
def supply(redis_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The supply service, with a database of its own."""
    uri = f"sqlite:///{tmp_path}/supply.sqlite"
    app = create_supply({"SQLALCHEMY_DATABASE_URI": uri, "REDIS_URL": redis_url, **CALM})
    yield app
    _close(app, supply_db)


@pytest.fixture
def inventory(redis_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The inventory service, with a database of its own."""
    uri = f"sqlite:///{tmp_path}/inventory.sqlite"
    app = create_inventory({"SQLALCHEMY_DATABASE_URI": uri, "REDIS_URL": redis_url})
    yield app
    _close(app, inventory_db)


@pytest.fixture
def cut_off_supply(tmp_path: Path) -> Iterator[Flask]:
    """The supply service, with Redis at a port where nobody listens."""
    with socket.socket() as bound:  # bound and not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{bound.getsockname()[1]}/0"
        uri = f"sqlite:///{tmp_path}/cut-off.sqlite"
        app = create_supply({"SQLALCHEMY_DATABASE_URI": uri, "REDIS_URL": url})
        yield app
        _close(app, supply_db)


def test_a_delivery_becomes_stock(supply: Flask, inventory: Flask) -> None:
    """What is posted to one service stands in the storage of the other."""
    answer = supply.test_client().post("/supplytransactions", json=DELIVERY)
    assert 201 == answer.status_code
    assert "Main_Warehouse" == answer.get_json()["warehouse_name"]
    assert answer.get_json()["message_id"]
    tally = inventory_queue.consumer(inventory, burst=True).run()
    assert 1 == tally.handled
    assert {("PROD001", "Main_Warehouse"): 100} == _stock(inventory)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 5.7}, "quantity"),
        ({"quantity": "5"}, "quantity"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": 10**30}, "quantity"),
        ({"product_code": ""}, "product_code"),
        ({"product_code": "x" * 65}, "product_code"),
        ({"supplier_name": None}, "supplier_name"),
        ({"colour": "red"}, "colour"),
        ({"note": "\ud800"}, "note"),  # half a character: UTF-8 has no bytes for it
        ({"product_code": "A\0B"}, "product_code"),
        ({"warehouse_name": "\ud83d"}, "warehouse_name"),
        ({"supplier_name": "\0"}, "supplier_name"),
    ],
)
def test_a_wrong_field_is_named(supply: Flask, change: dict[str, Any], field: str) -> None:
    """A body that the schema refuses is a 400 with that field, and records nothing."""
    client = supply.test_client()
    answer = client.post("/supplytransactions", json={**DELIVERY, **change})
    assert 400 == answer.status_code
    assert [field] == list(answer.get_json()["errors"])
    assert [] == _transactions(supply)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("quantity=5", "application/x-www-form-urlencoded", 415),
        ("{", "application/json", 400),
        ("", "application/json", 400),
        pytest.param("[" * 100_000, "application/json", 400, id="deep list"),
        pytest.param('{"a":' * 100_000, "application/json", 400, id="deep object"),
    ],
)
def test_a_body_that_is_no_json_gets_a_sentence(
    supply: Flask, body: str, content_type: str, status: int
) -> None:
    """A missing or broken JSON body is answered in JSON."""
    client = supply.test_client()
    answer = client.post("/supplytransactions", data=body, content_type=content_type)
    assert status == answer.status_code
    assert isinstance(answer.get_json()["error"], str)


def test_a_body_that_is_a_list_is_refused(supply: Flask) -> None:
    """JSON that is no object is a 400 of the schema."""
    answer = supply.test_client().post("/supplytransactions", json=[DELIVERY])
    assert 400 == answer.status_code
    assert ["_schema"] == list(answer.get_json()["errors"])


@pytest.mark.parametrize("service", ["supply", "inventory"])
def test_http_errors_are_json(service: str, request: pytest.FixtureRequest) -> None:
    """Neither service answers in HTML, whatever is asked."""
    client = request.getfixturevalue(service).test_client()
    missing, wrong = client.get("/nowhere"), client.delete("/")
    assert [404, 405] == [missing.status_code, wrong.status_code]
    assert all(isinstance(answer.get_json()["error"], str) for answer in (missing, wrong))
    assert {"GET", "HEAD", "OPTIONS"} == set(wrong.allow)
    assert service == client.get("/").get_json()["service"]


def test_deliveries_are_listed_newest_first(supply: Flask) -> None:
    """The list has pages, and begins with the newest."""
    client = supply.test_client()
    for quantity in (1, 2, 3):
        client.post("/supplytransactions", json={**DELIVERY, "quantity": quantity})
    page = client.get("/supplytransactions?limit=2&offset=1").get_json()["supplytransactions"]
    assert [2, 1] == [one["quantity"] for one in page]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-5", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        (f"limit={10**30}", "limit"),
        ("offset=-1", "offset"),
        (f"offset={2**63}", "offset"),
        (f"offset={10**30}", "offset"),
    ],
)
def test_a_page_that_cannot_be_is_refused(supply: Flask, query: str, field: str) -> None:
    """A limit or an offset out of range is a 400 with its name."""
    answer = supply.test_client().get(f"/supplytransactions?{query}")
    assert 400 == answer.status_code
    assert [field] == list(answer.get_json()["errors"])


def test_a_page_behind_the_last_one_is_empty(supply: Flask) -> None:
    """The largest offset that is allowed is one that the database takes."""
    answer = supply.test_client().get(f"/supplytransactions?offset={2**63 - 1}")
    assert {"supplytransactions": []} == answer.get_json()


def test_without_redis_nothing_is_recorded(cut_off_supply: Flask) -> None:
    """A delivery whose message cannot leave is a 503, and leaves no row."""
    answer = cut_off_supply.test_client().post("/supplytransactions", json=DELIVERY)
    assert 503 == answer.status_code
    assert "Nothing was stored." in answer.get_json()["error"]
    assert "Retry-After" in answer.headers
    assert [] == _transactions(cut_off_supply)


def test_a_full_queue_records_nothing(redis_url: str, tmp_path: Path) -> None:
    """Back-pressure is a 503 as well, and leaves no row."""
    uri = f"sqlite:///{tmp_path}/full.sqlite"
    config = {"SQLALCHEMY_DATABASE_URI": uri, "REDIS_URL": redis_url, **CALM}
    app = create_supply({**config, "REDIS_QUEUE_MAX_LENGTH": 1})
    client = app.test_client()
    statuses = [client.post("/supplytransactions", json=DELIVERY).status_code for _ in range(2)]
    assert [201, 503] == statuses
    assert 1 == len(_transactions(app))
    _close(app, supply_db)


def test_the_handler_makes_a_storage_and_adds_to_it(inventory: Flask) -> None:
    """The first delivery makes the row, the next one adds to it."""
    for quantity in (5, 7):
        with inventory.app_context():
            add_to_storage({**SUPPLIED, "quantity": quantity})
    assert {("PROD001", "Main_Warehouse"): 12} == _stock(inventory)


def test_storages_are_filtered(inventory: Flask) -> None:
    """Product and warehouse narrow the list."""
    for place in ("North", "South"):
        with inventory.app_context():
            add_to_storage({**SUPPLIED, "warehouse_name": place})
    assert {("PROD001", "South"): 5} == _stock(inventory, "?warehouse_name=South")
    assert {} == _stock(inventory, "?product_code=PROD002")


def test_a_filter_that_no_database_takes_is_refused(inventory: Flask) -> None:
    """A NUL in a filter is a 400 with its name."""
    answer = inventory.test_client().get("/storages?warehouse_name=a%00b")
    assert 400 == answer.status_code
    assert ["warehouse_name"] == list(answer.get_json()["errors"])


def test_two_threads_add_to_one_new_storage(inventory: Flask) -> None:
    """Consumers that add at once lose nothing, also when the row is new to both."""
    together = threading.Barrier(2)
    errors: list[BaseException] = []

    def add_often() -> None:
        try:
            together.wait(10)
            for _ in range(50):
                with inventory.app_context():
                    add_to_storage(SUPPLIED)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=add_often) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [] == errors
    assert {("PROD001", "Main_Warehouse"): 2 * 50 * 5} == _stock(inventory)


def _stock(app: Flask, query: str = "") -> dict[tuple[str, str], int]:
    found = app.test_client().get(f"/storages{query}").get_json()["storages"]
    return {(one["product_code"], one["warehouse_name"]): one["quantity"] for one in found}


def _transactions(app: Flask) -> list[dict[str, Any]]:
    answer = app.test_client().get("/supplytransactions")
    found: list[dict[str, Any]] = answer.get_json()["supplytransactions"]
    return found


def _close(app: Flask, db: Any) -> None:
    # A pooled connection that nobody closes is a ResourceWarning, and so a failed test.
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
