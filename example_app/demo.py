"""The whole thing in one command: a queue server, both services, the consumer, 500 deliveries.

Run by ``make demo``, or ``python -m example_app.demo``.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import FrameType
from typing import Any

import click

from flask_redis_queue.server import EmbeddedServer, free_port

from .processes import Died, Processes

Place = tuple[str, str]
Delivery = dict[str, Any]
_PRODUCTS = ("BOLT-M8", "NUT-M8", "WASHER-8", "HINGE-40")
_WAREHOUSES = ("Main_Warehouse", "North_Hall")
_SUPPLIERS = ("Smith & Sons", "Acme", "Nordwerk")
_POSTERS = 4
_MOST = 1_000_000


def main() -> int:
    """Run the demo.

    :return: 0 if the stock is what was posted, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=_count, default=500, metavar="N")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    # click looks here for the colour of all that is printed.
    with click.Context(click.Command("demo"), color=False if _plain() else None):
        return _guarded(options.messages)


def _guarded(messages: int) -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="redis-queue-demo-") as folder:
            return _run(Path(folder), messages)
    except KeyboardInterrupt:
        click.echo("\nStopped. Nothing was left running.")
        return 130
    except (Died, FileNotFoundError, RuntimeError, OSError) as error:
        click.echo(f"\n{click.style('✗', fg='red')} {error}", err=True)
        return 1


def _run(folder: Path, messages: int) -> int:
    started = time.monotonic()
    click.echo(click.style("Flask-Redis-Queue: a delivery here is stock there\n", bold=True))
    with EmbeddedServer(folder / "redis", port=0) as url, Processes(folder) as processes:
        supply = inventory = free_port()
        while inventory == supply:
            inventory = free_port()
        _start(processes, folder, url, supply, inventory)
        _step(f"queue server    {url}")
        _step(f"supply service  http://127.0.0.1:{supply}/supplytransactions")
        _step(f"inventory       http://127.0.0.1:{inventory}/storages")
        _step(f"flask consume   ready after {time.monotonic() - started:.1f}s\n")
        began = time.monotonic()
        expected = _post(processes, supply, messages)
        stock = _watch(processes, inventory, expected)
        _verdict(expected, stock, messages, time.monotonic() - began)
        consumer_log = processes.log("consumer").read_text(errors="replace")
    if stock != expected:
        return 1
    _what_next(consumer_log)
    return 0


def _start(processes: Processes, folder: Path, url: str, supply: int, inventory: int) -> None:
    for name, port in (("supply", supply), ("inventory", inventory)):
        environ = {
            "REDIS_QUEUE_URL": url,
            "REDIS_QUEUE_SEND_TIMEOUT": "5s",  # a laptop that is busy with something else
            "DATABASE_URL": f"sqlite:///{folder / name}.sqlite",
        }
        app = ["--app", f"example_app.{name}"]
        processes.flask(name, [*app, "run", "--port", str(port)], environ)
        if name == "inventory":
            processes.flask("consumer", [*app, "consume"], environ)
    processes.wait_for_http(supply)
    processes.wait_for_http(inventory)
    processes.wait_for_line("consumer", "ready in")


def _post(processes: Processes, port: int, messages: int) -> Counter[Place]:
    """Post deliveries over HTTP; the progress bar counts what was accepted."""
    results = _start_posting(port, _deliveries(messages))
    expected: Counter[Place] = Counter()
    label = f"posting {messages:,} deliveries"
    if _plain():  # the bar would hide the cursor, which takes an escape sequence
        click.echo(label)
    with click.progressbar(length=messages, label=label, width=30, hidden=_plain()) as bar:
        for _ in range(messages):
            try:
                result = results.get(timeout=30)
            except queue.Empty:
                raise Died("The supply service has accepted nothing for 30s.") from None
            if isinstance(result, Exception):
                processes.check()
                raise Died(f"A delivery was not accepted: {result}")
            expected[result["product_code"], result["warehouse_name"]] += result["quantity"]
            bar.update(1)
    return expected


def _deliveries(messages: int) -> Iterator[Delivery]:
    chance = random.Random(2026)
    for _ in range(messages):
        yield {
            "product_code": chance.choice(_PRODUCTS),
            "warehouse_name": chance.choice(_WAREHOUSES),
            "quantity": chance.randint(1, 100),
            "supplier_name": chance.choice(_SUPPLIERS),
        }


def _start_posting(port: int, todo: Iterator[Delivery]) -> queue.Queue[Delivery | Exception]:
    lock = threading.Lock()
    results: queue.Queue[Delivery | Exception] = queue.Queue()

    def poster() -> None:
        http = HTTPConnection("127.0.0.1", port, timeout=10)
        while True:
            with lock:
                delivery = next(todo, None)
            if delivery is None:
                return
            try:
                _post_one(http, delivery)
                results.put(delivery)
            except Exception as error:
                results.put(error)
                return

    # Daemon threads: Ctrl-C must not wait for an answer, nor for a lock that it interrupted.
    for _ in range(_POSTERS):
        threading.Thread(target=poster, daemon=True).start()
    return results


def _post_one(http: HTTPConnection, delivery: Delivery) -> None:
    headers = {"Content-Type": "application/json"}
    http.request("POST", "/supplytransactions", json.dumps(delivery), headers)
    response = http.getresponse()
    answer = response.read().decode(errors="replace")
    if response.status != 201:
        raise Died(f"the supply service answered {response.status}: {answer}")


def _watch(processes: Processes, port: int, expected: Counter[Place]) -> Counter[Place]:
    """Show the stock as it fills, until it is complete or has stopped growing."""
    shown = 0
    stock, last_growth = _stock(port), time.monotonic()
    live = sys.stdout.isatty() and not _plain()
    while True:
        if live:
            if shown:
                click.echo(f"\x1b[{shown}A", nl=False)
            shown = _table(stock, expected)
        if stock.total() >= expected.total() or time.monotonic() - last_growth > 15:
            break
        time.sleep(0.05)
        processes.check()
        now = _stock(port)
        if now != stock:
            stock, last_growth = now, time.monotonic()
    if not live:
        _table(stock, expected)
    return stock


def _stock(port: int) -> Counter[Place]:
    http = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        http.request("GET", "/storages")
        rows = json.loads(http.getresponse().read())["storages"]
    finally:
        http.close()
    return Counter({(row["product_code"], row["warehouse_name"]): row["quantity"] for row in rows})


def _table(stock: Counter[Place], expected: Counter[Place]) -> int:
    lines = ["", f"  {'product':<10} {'warehouse':<16} {'stock':>8}  {'posted':>8}"]
    for place in sorted(expected):
        mark = "✓" if stock[place] == expected[place] else " "
        product, warehouse = place
        lines.append(
            f"  {product:<10} {warehouse:<16} {stock[place]:>8,}  {expected[place]:>8,} {mark}"
        )
    for text in lines:
        click.echo(text)
    return len(lines)


def _verdict(expected: Counter[Place], stock: Counter[Place], messages: int, took: float) -> None:
    if stock == expected:
        mark = click.style("✓", fg="green", bold=True)
        click.echo(
            f"\n{mark} {messages:,} deliveries, {stock.total():,} pieces in stock, "
            f"{expected.total():,} posted. {took:.1f}s."
        )
    else:
        mark = click.style("✗", fg="red", bold=True)
        click.echo(f"\n{mark} {stock.total():,} in stock, but {expected.total():,} posted.")


def _what_next(consumer_log: str) -> None:
    lines = consumer_log.strip().splitlines()
    click.echo("\nWhat flask consume said:\n")
    for text in lines[:10]:
        click.echo(f"  {text}")
    click.echo(
        "\nWhere to look next\n"
        "  README.md                          the one-screen example\n"
        "  example_app/supply/views.py        where the message is sent\n"
        "  example_app/inventory/handlers.py  where it is handled\n"
        "  docs/architecture.md               how a message travels"
    )


def _count(typed: str) -> int:
    if not typed.isdecimal() or not 1 <= int(typed) <= _MOST:
        raise argparse.ArgumentTypeError(f"{typed} is not a whole number from 1 to {_MOST:,}.")
    return int(typed)


def _plain() -> bool:
    return bool(os.environ.get("NO_COLOR"))  # https://no-color.org: set, and not empty


def _step(text: str) -> None:
    click.echo(f"{click.style('✓', fg='green')} {text}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    code = main()
    # Poster threads may still wait for an answer; nothing waits for them.
    sys.stdout.flush()
    os._exit(code)
