"""What the tests of ways to a Redis share: certificates, a server with TLS, one message there."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_redis_queue import (
    QueueUnavailable,
    RedisQueue,
)

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from ..servers import Port, RealServer


def missing(reason: str) -> None:
    """Skip, but never in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def make_certificate(folder: Path, name: str, ca: str | None, *extensions: str) -> None:
    """Make NAME.pem and NAME.key, signed by a CA of the folder or by itself."""
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = dn\n[dn]\n")
    # Python 3.13 wants these of every certificate.
    extensions += ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
    command = ["openssl", "req", "-x509", "-config", "openssl.cnf", "-nodes", "-days", "2"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
    if ca is not None:
        command += ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key"]
    for one in extensions:
        command += ["-addext", one]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def start_tls(
    folder: Path, certificates: Path, *, wants: str = "no", name: str = "server"
) -> tuple[RealServer, int]:
    """:return: A server that speaks TLS on one port and plain on another, and the TLS port."""
    binary = shutil.which("redis-server")
    if binary is None or b"libssl" not in Path(binary).read_bytes():
        missing("no redis-server with TLS on PATH (Debian's has it)")
    port = Port()
    server = RealServer(
        folder,
        appendonly="no",
        tls_port=str(port.number),
        tls_cert_file=str(certificates / f"{name}.pem"),
        tls_key_file=str(certificates / f"{name}.key"),
        tls_ca_cert_file=str(certificates / "ca.pem"),
        tls_auth_clients=wants,
    )
    server.holds.append(port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_SERVER_BINARY", str(binary))
        server.start()
    return server, port.number


def handled_there(app: Flask, queue: RedisQueue, **options: Any) -> int:
    """:return: How many of one message a consumer handled that had to wait for it."""
    queue.handler(StockSupplied)(lambda supplied: None)
    consumer = queue.consumer(app, max_messages=1, max_seconds=60, **options)
    waits = threading.Thread(target=consumer.run)
    waits.start()
    inspector = app.extensions["redis_queue"].inspector
    eventually(lambda: inspector.status(QUEUE).consumers, "it waits")
    with app.app_context():
        queue.send(StockSupplied, GOODS)
    waits.join()
    handled: int = consumer.tally.handled
    return handled


def send_refused(url: str, **settings: Any) -> Exception:
    """:return: What a send raises."""
    app, queue = make_app(url, **settings)
    with app.app_context(), pytest.raises(QueueUnavailable) as caught:
        queue.send(StockSupplied, GOODS)
    return caught.value
