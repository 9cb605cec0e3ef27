"""Row 13: trouble that lasts ends the command with its own code, at once."""

from __future__ import annotations

import time

import pytest

from ..conftest import eventually
from .fleet import Fleet
from .helpers import FACTOR
from .ledger import READY


def login(fleet: Fleet) -> str:
    """:return: The URL of a user who may do everything, until the test says otherwise."""
    fleet.client().execute_command("ACL", "SETUSER", "shop", "on", ">pw", "~*", "+@all")
    return fleet.server.url.replace("redis://", "redis://shop:pw@")


LASTING = {
    "password changed": ("ACL SETUSER shop resetpass >new", True, 'refused user "shop"'),
    "user deleted": ("ACL DELUSER shop", True, 'refused user "shop"'),
    "command taken": ("ACL SETUSER shop -evalsha", False, "ACL SETUSER shop +evalsha"),
    "wait taken": ("ACL SETUSER shop -blmove", False, "ACL SETUSER shop +blmove"),
    "keys taken": ("ACL SETUSER shop resetkeys ~other", False, "may not use the keys"),
    "script taken": ("ACL SETUSER shop -hset", False, "may not run"),
}


CASES = [
    pytest.param(
        name,
        is_running,
        id=f"{name}, {'running' if is_running else 'starting'}",
    )
    for name in LASTING
    for is_running in (True, False)
]


@pytest.mark.parametrize(("name", "is_running"), CASES)
def test_lasting_trouble_ends_it_with_its_code(fleet: Fleet, name: str, is_running: bool) -> None:
    """Exit 5 and a sentence that names the cure, within 1 s; nothing is retried."""
    order, cut, said = LASTING[name]
    url = login(fleet)
    client = fleet.client()
    if not is_running:
        client.execute_command(*order.split())
    worker = fleet.start("consume", url=url)
    if is_running:
        eventually(lambda: fleet.marks(READY), "it is ready")
        client.execute_command(*order.split())
        if cut:  # a password that has changed leaves those in that are in
            client.client_kill_filter(_type="normal", skipme=True)
        if name == "script taken":
            fleet.send(1)  # an idle consumer's scripts do not come to the command in question
    started = time.monotonic()
    state = fleet.wait_for_end(worker.name, FACTOR * 1.0)
    took = time.monotonic() - started
    output = fleet.output([worker.name])
    print(f"{name}: {state} after {took:.2f}s, goal 1s")
    assert "ended 5" == state, output
    assert said in output
    assert "Traceback" not in output


def test_redis_goes_while_it_starts(fleet: Fleet) -> None:
    """A connection that is lost between the first answer and "ready" is waited for."""
    fleet.proxy.cut_request("ZRANGE", 1)  # what the start table asks first
    worker = fleet.start("consume")
    states: list[str] = []

    def is_decided() -> bool:
        states.append(fleet.forker.state(worker.pid))
        return states[-1] != "running" or bool(fleet.marks(READY, worker.name))

    eventually(is_decided, "it is ready, or has ended")
    assert "running" == states[-1], fleet.output([worker.name])
