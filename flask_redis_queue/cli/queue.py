"""``flask queue …``: what an operator sees and does."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from typing import Any

import click

from .. import browse
from ..inspector import QueueStatus
from ..options import SentMessage, check_options
from ..state import AppState
from . import loading
from .acl import acl
from .dead import dead
from .finding import find_everywhere, found_as_dict, payload_cell
from .lines import visible
from .params import DURATION
from .printing import (
    asking,
    check_is_there,
    json_option,
    print_columns,
    print_fields,
    print_json,
    queue_option,
    queues_of,
    read_payload,
)
from .serve import server
from .table import handler_dicts, handler_rows
from .writing import put


@click.group("queue", cls=loading.YieldingGroup)
def queue() -> None:
    """Look at queues and dead letters, send by hand, and run a server for development."""


queue.add_command(acl)
queue.add_command(dead)
queue.add_command(server)


@queue.command(
    epilog="\b\nExamples:\n  flask queue status\n  flask queue status --watch\n"
    "  flask queue status --alive web1-4711"
)
@click.argument("queues", nargs=-1)
@click.option(
    "--alive",
    metavar="NAME",
    help="Exit with 0 only while the consumer of this name renews its lease, on each of the "
    "queues: for health checks.",
)
@click.option("--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
@json_option
@click.pass_context
def status(
    context: click.Context, queues: tuple[str, ...], alive: str | None, watch: bool, as_json: bool
) -> None:
    """Show what waits, what is held, and whether the ledger balances."""
    state = loading.load_state(context)
    names = queues or (state.registry.handled_queues if alive else state.registry.known_queues)
    while True:
        with asking(state):
            found = [state.inspector.status(name) for name in names]
        if alive is not None:
            _judge(found, alive)
            return
        for one in found:
            check_is_there(state, one)
        if watch and not as_json:
            click.clear()
        _print_status(found, as_json)
        if not watch:
            return
        time.sleep(1)


def _judge(found: list[QueueStatus], name: str) -> None:
    """End with 1 unless a consumer of this name lives on every queue."""
    for one in found:
        # An incarnation adds its own end to the name; the workers of -p add their number before.
        ours = re.compile(rf"{re.escape(name)}(\.\d+)?-[0-9a-f]+")
        leases = [c.lease_left for c in one.consumers if ours.fullmatch(c.name)]
        if not leases:
            raise loading.Failure(f'No consumer "{name}" on {one.queue}.', 1)
        if max(leases) < 0:
            ago = -max(leases)
            raise loading.Failure(
                f'Consumer "{name}" on {one.queue} has not renewed its lease, which ended '
                f"{ago:.1f}s ago.",
                1,
            )
    put(f"{name} is alive.")


def _print_status(found: list[QueueStatus], as_json: bool) -> None:
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    rows = [["queue", "waiting", "delayed", "held", "dead", "consumers", "handled", "ledger"]]
    rows += [_status_row(one) for one in found]
    print_columns(rows)
    for one in found:
        if one.paused:
            put(visible(f"{one.queue} is paused: {one.paused}"))
        for consumer in one.consumers:
            lapsed = " · lease lapsed" if consumer.lease_left < 0 else ""
            put(visible(f"  {one.queue}  {consumer.name}  holds {consumer.held}{lapsed}"))


def _status_row(one: QueueStatus) -> list[str]:
    balance = "balances" if one.missing == 0 else f"{one.missing:+d} missing"
    numbers = (one.waiting, one.delayed, one.held, one.dead, len(one.consumers))
    handled = one.ledger.get("handled", 0)
    return [one.queue, *(f"{n:,}" for n in (*numbers, handled)), balance]


@queue.command(epilog="\b\nExample:\n  flask --app inventory queue handlers")
@json_option
@click.pass_context
def handlers(context: click.Context, as_json: bool) -> None:
    """Show which function handles what; needs no Redis."""
    state = loading.load_state(context)
    with loading.told():
        names = state.registry.queues_to_read(())
        if as_json:
            print_json(handler_dicts(state.registry, names))
            return
        head = ["type", "queue", "handler", "schema", "tries"]
        print_columns([head, *handler_rows(state.registry, names)])


@queue.command(
    epilog="\b\nExamples:\n"
    """  flask queue send stock.supplied '{"product_code": "BOLT-M8", …}'\n"""
    "  flask queue send stock.supplied @delivery.json --delay 5m\n"
    "  flask queue send --queue orders - <order.json"
)
@click.argument("type_and_payload", nargs=-1, required=True, metavar="[TYPE] JSON|@FILE|-")
@click.option("--queue", metavar="QUEUE", help="Another queue than the contract's.")
@click.option("--id", metavar="ID", help="Its id; sending it again stores nothing.")
@click.option("--delay", type=DURATION, metavar="S", help="How long it waits.")
@click.option("--expires", type=DURATION, metavar="S", help="How long it may be handled.")
@click.option("--dedup", metavar="KEY", help="A second send with this key stores nothing.")
@click.option("--header", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated.")
@json_option
@click.pass_context
def send(
    context: click.Context, /, type_and_payload: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Send one message by hand, checked as the app's own are.

    The payload is JSON, the name of a file behind @, or - for standard input. Without TYPE it goes
    by the queue, as queue.send(payload) does.
    """
    if len(type_and_payload) > 2:
        raise click.UsageError("Give a TYPE and a payload, or a payload only.")
    *name, given = type_and_payload
    headers = [one.partition("=") for one in options.pop("header")]
    if bad := [name for name, equals, _ in headers if not equals]:
        raise click.UsageError(f"--header {bad[0]} has no value. Write --header {bad[0]}=VALUE.")
    if headers:
        options["headers"] = {key: value for key, _, value in headers}
    payload = read_payload(given)
    state = loading.load_state(context)
    with loading.told(), state.app.app_context():
        contract = name[0] if name else None
        checked = check_options(**options)
        sent = state.publisher.send(state.registry, contract, payload, checked)
    _tell_sent(sent, as_json, has_id=_has_id(state, sent))


def _has_id(state: AppState, sent: SentMessage) -> bool:
    """:return: Whether the bytes of a message hold its id; a bare payload has room for none."""
    contract = state.registry.contracts.get(sent.type or "")
    return contract is not None and (contract.format or state.config.format) != "plain"


def _tell_sent(sent: SentMessage, as_json: bool, *, has_id: bool) -> None:
    if as_json:
        print_json({**dataclasses.asdict(sent), "id": sent.id if has_id else None})
        return
    what = sent.type or "An untyped message"
    told = "was there already, nothing was stored" if sent.duplicate else "is on its way"
    if has_id:
        put(f"{what} {told}: {sent.id} on {sent.queue}")
        return
    put(
        f"{what} {told} on {sent.queue}. It carries no id; to see it: flask queue peek {sent.queue}"
    )


@queue.command(epilog="\b\nExample:\n  flask queue peek inventory_updates --limit 3")
@click.argument("name", required=False, metavar="[QUEUE]")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, metavar="N")
@json_option
@click.pass_context
def peek(context: click.Context, name: str | None, limit: int, as_json: bool) -> None:
    """Show what will be taken next, and leave it where it is."""
    state = loading.load_state(context)
    chosen = name or state.config.queue_name
    with asking(state):
        found = list(itertools.islice(browse.ready(state.inspector.pool, chosen), limit))
        looked_at = state.inspector.status(chosen)
        check_is_there(state, looked_at)
    if as_json:
        print_json([found_as_dict(one) for one in found])
        return
    if not found:
        put(f"{chosen} is empty.")
        return
    rows = [["id", "type", "bytes", "payload"]]
    rows += [
        [one.id[-8:], one.type or "(untyped)", f"{len(one.delivery.raw):,}", payload_cell(one)]
        for one in found
    ]
    print_columns(rows)
    if looked_at.waiting > len(found):
        put(f"{looked_at.waiting - len(found):,} more; --limit shows them.")


@queue.command(epilog="\b\nExample:\n  flask queue show 53495fdb")
@click.argument("id")
@queue_option
@json_option
@click.pass_context
def show(context: click.Context, id: str, only: str | None, as_json: bool) -> None:
    """Find a message wherever it stands: ready, held, delayed or dead."""
    if len(id) < 4:
        raise click.UsageError("Give at least 4 characters of the ID, from either end.")
    state = loading.load_state(context)
    with asking(state):
        found = find_everywhere(state, id, only)
    if not found:
        raise loading.Failure(
            f'No message "{id}" in {", ".join(queues_of(state, only))}. It may have been handled: '
            "what is done leaves no trace here.",
            1,
        )
    if as_json:
        print_json(found)
        return
    for number, one in enumerate(found):
        if number:
            put("")
        print_fields(one)
