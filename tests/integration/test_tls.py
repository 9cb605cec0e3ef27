"""TLS to a Redis: whom it trusts, and what it says where that does not fit."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_redis_queue import (
    ConfigurationError,
    QueueRefused,
    RedisQueue,
    clients,
    diagnosis,
)
from flask_redis_queue.server import WATCH

from ..apps import GOODS, StockSupplied, make_app
from ..conftest import eventually
from ..servers import Port
from .reaching import handled_there, send_refused, start_tls

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Any]:
    """A plain port and a TLS port of one server."""
    server, port = start_tls(tmp_path_factory.mktemp("tls"), certificates)
    yield server.port, port
    server.kill()


@pytest.fixture(scope="module")
def mutual_tls(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[int]:
    """The TLS port of a server that wants to see a client's certificate."""
    server, port = start_tls(tmp_path_factory.mktemp("mutual"), certificates, wants="yes")
    yield port
    server.kill()


def test_tls_by_url(tls: Any, certificates: Path) -> None:
    """rediss:// sends, waits and consumes, in batches larger than a TLS record too."""
    ca = str(certificates / "ca.pem")
    app, queue = make_app(f"rediss://127.0.0.1:{tls[1]}/0", REDIS_SSL_CA_CERTS=ca)
    assert 1 == handled_there(app, queue)
    with app.app_context():
        queue.send_many("stock.supplied", [GOODS] * 500)
    assert 500 == queue.consumer(app, burst=True).run().handled


def test_tls_by_parts(tls: Any, certificates: Path) -> None:
    """REDIS_SSL with host and port is the same as a URL."""
    app = Flask("parts")
    app.config.update(REDIS_HOST="127.0.0.1", REDIS_PORT=tls[1], REDIS_SSL=True)
    app.config.update(REDIS_SSL_CA_CERTS=str(certificates / "ca.pem"))
    assert 1 == handled_there(app, RedisQueue(app, contracts=StockSupplied))


@pytest.mark.usefixtures("no_waiting")
def test_mutual_tls(mutual_tls: int, certificates: Path) -> None:
    """A server that wants a client certificate gets it, and says what is missing without."""
    url, ca = f"rediss://127.0.0.1:{mutual_tls}/0", str(certificates / "ca.pem")
    pair = {
        "REDIS_SSL_CERTFILE": str(certificates / "client.pem"),
        "REDIS_SSL_KEYFILE": str(certificates / "client.key"),
    }
    assert 1 == handled_there(*make_app(url, REDIS_SSL_CA_CERTS=ca, **pair))
    error = send_refused(url, REDIS_SSL_CA_CERTS=ca)
    assert "REDIS_SSL_CERTFILE" in str(error) or "closed the connection" in str(error)


def test_wrong_ca_is_for_a_person(tls: Any, certificates: Path) -> None:
    """A certificate that cannot be verified is said at once; nothing is retried."""
    other = str(certificates / "other-ca.pem")
    error = send_refused(f"rediss://127.0.0.1:{tls[1]}/0", REDIS_SSL_CA_CERTS=other)
    assert (QueueRefused, "no") == (type(error), getattr(error, "stored", None))
    assert "has a certificate that could not be verified" in str(error)
    assert "REDIS_SSL_CA_CERTS" in str(error)


def test_certificate_of_another_host(tmp_path: Path, certificates: Path) -> None:
    """The CA alone is not enough, also with redis-py 5; the URL may say otherwise."""
    server, port = start_tls(tmp_path, certificates, name="elsewhere")
    ca = str(certificates / "ca.pem")
    try:
        error = send_refused(f"rediss://127.0.0.1:{port}/0", REDIS_SSL_CA_CERTS=ca)
        assert "it is for another host name" in str(error)
        for option in ("ssl_check_hostname=false", "ssl_cert_reqs=CERT_NONE"):
            app, queue = make_app(f"rediss://127.0.0.1:{port}/0?{option}", REDIS_SSL_CA_CERTS=ca)
            assert 1 == handled_there(app, queue)
    finally:
        server.kill()


def test_consume_exits_5_at_once(tls: Any, certificates: Path, tmp_path: Path) -> None:
    """`flask consume` does not wait for a certificate to become right."""
    (tmp_path / "shop.py").write_text(
        "from flask import Flask\nfrom flask_redis_queue import RedisQueue\n"
        "from tests.apps import StockSupplied\n"
        "app = Flask('shop')\nRedisQueue(app).handler(StockSupplied)(print)\n"
    )
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    environ |= {"REDIS_URL": f"rediss://127.0.0.1:{tls[1]}/0"}
    environ |= {"REDIS_SSL_CA_CERTS": str(certificates / "other-ca.pem")}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop", "consume", "--wait-for-redis", "60"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    output = done.stdout + done.stderr
    assert 5 == done.returncode, output
    assert "could not be verified" in output
    assert "Traceback" not in output


@pytest.mark.usefixtures("no_waiting")
def test_plain_and_tls_do_not_meet(tls: Any) -> None:
    """Each against the other's port ends in a sentence that names the cure."""
    plain, port = tls
    assert "use rediss://" in str(send_refused(f"redis://127.0.0.1:{port}/0"))
    assert "TLS on this port" in str(
        send_refused(f"rediss://127.0.0.1:{plain}/0", REDIS_QUEUE_SEND_TIMEOUT="1s")
    )


def test_missing_file_names_its_key() -> None:
    """A path that leads nowhere is a mistake in the configuration, not an outage."""
    app, queue = make_app("rediss://127.0.0.1:1/0", REDIS_SSL_CERTFILE="/nowhere.pem")
    with app.app_context(), pytest.raises(ConfigurationError, match="REDIS_SSL_CERTFILE is '/now"):
        queue.send(StockSupplied, GOODS)


def test_sentinel_over_tls(tmp_path: Path, certificates: Path) -> None:
    """REDIS_SSL encrypts the way to the sentinels and to the master."""
    server, port = start_tls(tmp_path, certificates)
    held = Port()
    place = held.number
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"port 0\ntls-port {place}\nbind 127.0.0.1\ndir {tmp_path}\ntls-replication yes\n"
        f"tls-cert-file {certificates}/server.pem\ntls-key-file {certificates}/server.key\n"
        f"tls-ca-cert-file {certificates}/ca.pem\ntls-auth-clients no\n"
        f"sentinel monitor mymaster 127.0.0.1 {port} 1\n"
    )
    sentinel = subprocess.Popen(
        ["/bin/sh", "-c", WATCH, str(shutil.which("redis-server")), str(file), "--sentinel"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        url, ca = f"redis+sentinel://127.0.0.1:{place}/mymaster", str(certificates / "ca.pem")
        app, queue = make_app(url, REDIS_SSL=True, REDIS_SSL_CA_CERTS=ca)
        pool = app.extensions["redis_queue"].broker.pool

        def found() -> bool:
            with contextlib.suppress(diagnosis.NotSent), clients.connection(pool):
                return True
            return False

        eventually(found, "the sentinel is up")
        assert 1 == handled_there(app, queue)
    finally:
        sentinel.kill()
        sentinel.wait()
        assert sentinel.stdin is not None
        sentinel.stdin.close()
        server.kill()
