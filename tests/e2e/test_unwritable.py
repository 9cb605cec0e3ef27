"""A consumer whose output goes nowhere: a line may be lost, what became of a message may not."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from .shop import Shop

APP = """
import os
from flask import Flask
from flask_redis_queue import RedisQueue

app = Flask("shop")
queue = RedisQueue(app)

@queue.handler(queue="orders", retry=1)
def place(order):
    with open("effects", "a") as file:
        file.write(f"{order['number']}\\n")
    if order["number"] == 13:
        raise ValueError("name: " + os.fsdecode(b"caf\\xe9"))
"""
NUMBERS = (1, 2, 13, 3)


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    """A folder with an app, and an empty server."""
    shop = Shop(tmp_path, redis_url, APP)
    shop.push(*NUMBERS)
    return shop


def outcome(shop: Shop) -> tuple[list[int], int, int]:
    """:return: How often each effect was, how many were handled, and how many are dead."""
    effects = Counter((shop.folder / "effects").read_text().split())
    handled = int(shop.client.hget("{orders}:ledger", "handled") or 0)
    return sorted(effects.values()), handled, shop.client.zcard("{orders}:dead:index")


@pytest.mark.parametrize("where", [">/dev/full 2>&1", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", ["", "--log-format json", "-c 4", "-v"])
def test_nothing_can_be_written(shop: Shop, where: str, arguments: str) -> None:
    """A log on a full disk, or none at all."""
    command = " ".join(shop.command("consume", "--burst", arguments))
    done = subprocess.run(
        f"{command} {where}", shell=True, cwd=shop.folder, env=shop.environ, timeout=60
    )
    assert ([1, 1, 1, 1], 3, 1) == outcome(shop)
    assert 6 == done.returncode


@pytest.mark.parametrize("arguments", [(), ("-c", "4"), ("--log-format", "json")])
def test_the_reader_of_a_pipe_has_gone(shop: Shop, arguments: tuple[str, ...]) -> None:
    """``flask consume | head``: it goes on, and says nothing more."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        shop.command("consume", "--burst", *arguments),
        cwd=shop.folder,
        env=shop.environ,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writer)
    assert ([1, 1, 1, 1], 3, 1) == outcome(shop)
    assert (6, b"") == (done.returncode, done.stderr)


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
@pytest.mark.parametrize("format", ["plain", "json", "pretty"])
def test_what_the_encoding_lacks_is_written_in_its_place(
    shop: Shop, encoding: str, format: str
) -> None:
    """The error holds half a surrogate pair, and the marks are no ASCII."""
    shop.environ["PYTHONIOENCODING"] = encoding
    code, output = shop.run("consume", "--burst", "--log-format", format)
    assert 6 == code, output
    assert r"name: caf\udce9" in output
    assert ([1, 1, 1, 1], 3, 1) == outcome(shop)
