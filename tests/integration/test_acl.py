"""The users that ``flask queue acl`` prints: enough for their role, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from marshmallow import Schema, fields

from flask_redis_queue import QueueRefused, RedisQueue, Reject, Retry, acl, message
from flask_redis_queue.broker import Broker
from flask_redis_queue.cli import queue as queue_command
from flask_redis_queue.clients import make_pool
from flask_redis_queue.config import load
from flask_redis_queue.diagnosis import NotSent
from flask_redis_queue.protocol import Settlement, TurnRequest

from ..apps import GOODS, QUEUE, StockSupplied, make_app
from ..servers import RealServer


@message("order.placed", queue="orders")
class OrderPlaced(Schema):
    """What the handlers of these tests send on."""

    number = fields.Integer(required=True)


def make_forwarder(url: str) -> tuple[Flask, RedisQueue]:
    """:return: An app that knows a queue which it does not handle."""
    app = Flask("tests.app")
    app.config["REDIS_URL"] = url
    return app, RedisQueue(app, contracts=[StockSupplied, OrderPlaced])


def produce(url: str) -> None:
    """Do all that a sender may."""
    app, queue = make_app(url, REDIS_QUEUE_MAX_LENGTH=10_000)
    with app.app_context():
        queue.send(StockSupplied, GOODS, expires="1h", headers={"tenant": "x"})
        queue.send(StockSupplied, GOODS, delay="1ms")
        queue.send(StockSupplied, GOODS, dedup="a", id="a")
        queue.send_many(StockSupplied, [GOODS, GOODS])


def broker_of(url: str, **settings: Any) -> Broker:
    """:return: A broker with its own connections."""
    config = load({"REDIS_URL": url, **settings}, {})
    return Broker(make_pool(config, 5), config)


def consume(url: str) -> None:
    """Do all that a consumer may, with every outcome, and a burial on both ways."""
    broker = broker_of(url, REDIS_QUEUE_DEAD_MAX=1, REDIS_QUEUE_MAX_DELIVERIES=2)
    for number in range(2):
        seq = broker.enter(QUEUE, f"ghost{number}")
        broker.turn(QUEUE, TurnRequest(f"ghost{number}", seq + 1, Settlement(), 1, True))
        broker.bury(QUEUE, f"ghost{number}", known=True)
    app, queue = make_app(url, REDIS_QUEUE_DEAD_MAX=1, REDIS_QUEUE_MAX_BYTES=1024)
    outcomes = iter([Retry("1ms"), Reject("no"), Reject("no")])

    @queue.handler(StockSupplied)
    def handle(supplied: Any) -> None:
        if error := next(outcomes, None):
            raise error

    queue.consumer(app, max_messages=5, max_seconds=20).check()
    queue.consumer(app, max_messages=5, max_seconds=20).run()
    app.extensions["redis_queue"].inspector.status(QUEUE)
    app.extensions["redis_queue"].inspector.server()
    seq = broker.enter(QUEUE, "last")
    held = broker.turn(QUEUE, TurnRequest("last", seq + 1, Settlement(), 1, True)).deliveries
    back = Settlement(handed_back=[one.tag for one in held])
    broker.turn(QUEUE, TurnRequest("last", seq + 2, back, 0, True))
    broker.resync(QUEUE, "last", seq + 5)
    broker.beat(QUEUE, "last")
    broker.bury(QUEUE, "last", known=True)


def operate(url: str) -> None:
    """Do all that an operator may."""
    app, _ = make_app(url)
    inspector = app.extensions["redis_queue"].inspector
    inspector.status(QUEUE)
    letters = list(inspector.dead_letters(QUEUE))
    inspector.replay(QUEUE, [letters[0].key])
    inspector.delete(QUEUE, [letters[1].key])
    inspector.server()


WORK: dict[acl.Role, Callable[[str], None]] = {
    "producer": produce,
    "consumer": consume,
    "operator": operate,
}
UNNEEDED_HERE = {
    # Asked for by name, and done without where it is refused.
    *("client|setname", "client|setinfo", "info"),
    "eval",  # only where the server does not know the script yet
    *("lrange", "hgetall"),  # peek and show, which the command line runs
}


def prepare(client: redis.Redis, url: str, role: acl.Role) -> None:
    """Give a role something to work on."""
    client.flushall()
    produce(url)
    client.lpush(QUEUE, b'"' + b"x" * 2000 + b'"')
    if role == "operator":
        client.lpush(QUEUE, b"{", b"}")
        app, queue = make_app(url)
        queue.handler(StockSupplied)(lambda supplied: None)
        queue.consumer(app, burst=True, max_seconds=20).run()
        broker_of(url).enter(QUEUE, "somebody")


def grant(client: redis.Redis, role: acl.Role, *more: str) -> str:
    """Make the user, as an administrator would.

    :return: What it logs in with.
    """
    client.execute_command("ACL DELUSER", role)
    line = acl.rule(role, {role: [QUEUE]}, knows_setinfo=False).replace("PASSWORD", "secret")
    client.execute_command("ACL SETUSER", *line.split()[1:], *more)
    return f"{role}:secret@"


@pytest.mark.parametrize("role", acl.ROLES)
def test_a_role_has_enough_and_no_more(own_server: RealServer, role: acl.Role) -> None:
    """It does its work with what it has, and not without any one command of that."""
    client = own_server.client()
    prepare(client, own_server.url, role)
    WORK[role](own_server.url.replace("//", f"//{grant(client, role)}"))
    spared = []
    for command in sorted(acl.commands(role) - UNNEEDED_HERE):
        prepare(client, own_server.url, role)
        url = own_server.url.replace("//", f"//{grant(client, role, f'-{command}')}")
        try:
            WORK[role](url)
        except (QueueRefused, NotSent, redis.RedisError):
            continue
        spared.append(command)
    assert [] == spared


@pytest.mark.parametrize("role", acl.ROLES)
def test_a_role_sees_nothing_else(own_server: RealServer, role: acl.Role) -> None:
    """Another queue, another key and administration are refused."""
    client = own_server.client()
    url = own_server.url.replace("//", f"//{grant(client, role)}")
    user = redis.Redis.from_url(url)
    for command in (
        ["EVAL", "return redis.call('LLEN', KEYS[1])", "1", "other_queue"],
        ["EVAL", "return redis.call('KEYS', '*')", "0"],
        *(["KEYS", "*"], ["FLUSHALL"], ["CONFIG", "SET", "maxmemory", "1"], ["SCRIPT", "FLUSH"]),
        *(["MONITOR"], ["ACL", "LIST"], ["SHUTDOWN"]),
    ):
        with pytest.raises(redis.ResponseError, match=r"permission|can't run"):
            user.execute_command(*command)


def test_the_command_prints_what_the_app_does(redis_url: str) -> None:
    """A consumer's line for an app with handlers, for its own queues; a producer's without."""
    app, queue = make_app(redis_url)
    (line,) = _lines(app)
    assert line.startswith("user tests.app-producer on >PASSWORD resetchannels -@all ")
    assert (True, False) == (" +set " in line, " +blmove " in line)
    queue.handler(StockSupplied)(lambda supplied: None)
    (line,) = _lines(app)
    assert line.startswith("user tests.app-consumer on >PASSWORD resetchannels -@all ")
    assert line.endswith(f" ~{QUEUE} ~{{{QUEUE}}}:*")
    assert (False, True) == (" +set " in line, " +blmove " in line)
    assert _lines(app, "--user", "x")[0].startswith("user x on >PASSWORD ")


def test_what_handlers_send_belongs_to_the_app(redis_url: str) -> None:
    """Queues that it knows and does not handle make it a producer, too."""
    app, queue = make_forwarder(redis_url)
    queue.handler(StockSupplied)(lambda supplied: None)
    (line,) = _lines(app)
    assert line.startswith("user tests.app-consumer-producer on ")
    assert (True, True) == (" +set " in line, " +blmove " in line)
    patterns = line.split()[line.split().index(f"~{QUEUE}") :]
    assert [f"~{QUEUE}", f"~{{{QUEUE}}}:*", "~orders", "~{orders}:wake"] == patterns[:4]
    assert "~{orders}:*" not in patterns


@pytest.mark.parametrize("roles", [["producer", "consumer"], ["operator", "producer"], acl.ROLES])
def test_one_user_is_one_line(redis_url: str, roles: list[acl.Role]) -> None:
    """All that its roles need, and each word once: a file with two lines for a user is refused."""
    app, queue = make_app(redis_url)
    queue.handler(StockSupplied)(lambda supplied: None)
    (line,) = _lines(app, *(f"--role={role}" for role in [*roles, *roles]), "--user", "svc")
    words = line.split()
    assert len(words) == len(set(words))
    granted = {word[1:] for word in words if word[0] == "+"} - {"client|setinfo"}
    assert set().union(*(acl.commands(role) for role in roles)) == granted
    assert [f"~{QUEUE}", f"~{{{QUEUE}}}:*"] == [word for word in words if word[0] == "~"]


def test_the_line_as_a_whole_is_enough(own_server: RealServer, tmp_path: Path) -> None:
    """A server starts with it as its file of users; a handler that sends on does all with it."""
    arguments = ("--role", "producer", "--role", "consumer", "--user", "svc")
    for number, given in enumerate([(), arguments]):
        app, queue = make_forwarder(own_server.url)
        queue.handler(StockSupplied)(lambda supplied: None)
        (line,) = _lines(app, *given)
        users = tmp_path / f"users{number}.acl"
        users.write_text(line.replace("PASSWORD", "secret") + "\n")
        folder = tmp_path / f"server{number}"
        folder.mkdir()
        server = RealServer(folder, aclfile=str(users))
        server.start()
        try:
            name = line.split()[1]
            assert [1, 2] == _send_on(server.url.replace("//", f"//{name}:secret@"))
        finally:
            server.kill()


def _send_on(url: str) -> list[int]:
    """Send, and have a handler send to another queue, and to its own.

    :return: Which runs its handler saw.
    """
    app, queue = make_forwarder(url)
    seen: list[int] = []

    @queue.handler(StockSupplied)
    def handle(supplied: Any) -> None:
        seen.append(len(seen) + 1)
        queue.send(OrderPlaced, {"number": len(seen)})
        if len(seen) == 1:
            queue.send(StockSupplied, GOODS)

    with app.app_context():
        queue.send(StockSupplied, GOODS)
    queue.consumer(app, max_messages=2, max_seconds=20).check()
    assert 2 == queue.consumer(app, max_messages=2, max_seconds=20).run().handled
    return seen


def _lines(app: Flask, *arguments: str) -> list[str]:
    result = app.test_cli_runner().invoke(queue_command, ["acl", *arguments])
    assert 0 == result.exit_code, result.output
    return [str(line) for line in result.output.splitlines()]


def test_a_login_that_may_not_do_all_is_refused_at_once(own_server: RealServer) -> None:
    """Each command that a consumer may need some day is asked for before it is ready."""
    client = own_server.client()
    lazy = []
    for command in sorted(acl.commands("consumer") - UNNEEDED_HERE):
        client.flushall()
        user = grant(client, "consumer", f"-{command}")
        app, queue = make_app(own_server.url.replace("//", f"//{user}"))
        queue.handler(StockSupplied)(lambda supplied: None)
        try:
            queue.consumer(app).check()
        except QueueRefused:
            assert [] == client.keys("*:nothing")
            continue
        lazy.append(command)
    assert ["ping"] == lazy  # which the command asks first of all
