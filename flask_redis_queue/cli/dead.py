"""``flask queue dead …``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ..browse import DeadLetterRecord
from . import loading
from .choosing import HEAD, choose, find_one, of_group, row
from .editing import check_rate, edit, paced, without_expired
from .printing import (
    asking,
    confirm,
    json_option,
    moment,
    print_columns,
    print_fields,
    print_json,
    queue_option,
    raw_fields,
    read_payload,
    yes_option,
)
from .writing import json_text, put

all_option = click.option(
    "--all", "everything", is_flag=True, help="All dead letters of the queue(s)."
)
group_option = click.option("--group", metavar="GROUP", help="Those of one cause: dead groups.")


@click.group()
def dead() -> None:
    """Dead letters: what could not be handled, with its exact bytes and why."""


@dead.command(
    "list", epilog="\b\nExamples:\n  flask queue dead list\n  flask queue dead list --queue orders"
)
@queue_option
@group_option
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N")
@json_option
@click.pass_context
def dead_list(
    context: click.Context, only: str | None, group: str | None, limit: int, as_json: bool
) -> None:
    """List dead letters, oldest first."""
    state = loading.load_state(context)
    records: list[DeadLetterRecord] = []
    total = 0
    with asking(state):
        for record in of_group(state, only, group):
            total += 1
            if len(records) < limit:
                records.append(record)
    if as_json:
        print_json([as_dict(one) for one in records])
        return
    if not records:
        put("No dead letters.")
        return
    print_columns(
        [HEAD, *(row(one) for one in records)],
        notes=[str(one.meta.get("why", "")) for one in records],
    )
    if total > len(records):
        put(f"{total - len(records):,} more; --limit shows them.")
    put("flask queue dead show ID · flask queue dead replay ID (or --all)")


@dead.command("show", epilog="\b\nExample:\n  flask queue dead show 53495fdb")
@click.argument("id")
@queue_option
@json_option
@click.pass_context
def dead_show(context: click.Context, id: str, only: str | None, as_json: bool) -> None:
    """Show one dead letter: why, where, and its exact bytes."""
    state = loading.load_state(context)
    with asking(state):
        one = find_one(state, id, only)
    if as_json:
        print_json(as_dict(one))
    else:
        print_fields(as_dict(one))


@dead.command("groups", epilog="\b\nExample:\n  flask queue dead groups --queue orders")
@queue_option
@json_option
@click.pass_context
def dead_groups(context: click.Context, only: str | None, as_json: bool) -> None:
    """Sum dead letters up by cause: kind of error, place in your code, and text without numbers."""
    state = loading.load_state(context)
    groups: dict[str, list[DeadLetterRecord]] = {}
    with asking(state):
        for record in of_group(state, only, None):
            groups.setdefault(record.group, []).append(record)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    if as_json:
        print_json([_group_as_dict(group, records) for group, records in ordered])
    elif not ordered:
        put("No dead letters.")
    else:
        rows = [["group", "count", "queue", "type", "cause", "where"]]
        rows += [_group_row(group, records) for group, records in ordered]
        print_columns(rows, notes=[str(one[-1].meta.get("why", "")) for _, one in ordered])
        put("flask queue dead replay --group GROUP")


def _group_row(group: str, records: list[DeadLetterRecord]) -> list[str]:
    one = records[-1]
    cause, where = (str(one.meta.get(name) or "") for name in ("cause", "frame"))
    count = f"{len(records):,}"
    return [group, count, one.delivery.queue, one.type or "(untyped)", cause, where]


def _group_as_dict(group: str, records: list[DeadLetterRecord]) -> dict[str, Any]:
    one = records[-1]
    named = {name: one.meta.get(name) for name in ("cause", "error", "frame", "why")}
    times = {"first": moment(records[0].died), "last": moment(one.died)}
    where = {"queue": one.delivery.queue, "type": one.type}
    return {"group": group, "count": len(records), **where, **named, **times}


@dead.command(
    "replay",
    epilog="\b\nExamples:\n  flask queue dead replay 53495fdb\n  flask queue dead replay --all\n"
    "  flask queue dead replay --group 1f0c33ab --rate 20\n"
    """  flask queue dead replay 53495fdb --edit '{"quantity": 5}'""",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@all_option
@group_option
@queue_option
@click.option(
    "--rate",
    type=click.FloatRange(0.1),
    callback=check_rate,
    metavar="N",
    help="At most N a second.",
)
@click.option(
    "--edit",
    metavar="JSON|@FILE|-",
    help="Give the one message this payload instead; its id and headers stay.",
)
@json_option
@click.pass_context
def dead_replay(
    context: click.Context, /, ids: Sequence[str], as_json: bool, **options: Any
) -> None:
    """Bring dead letters back, after the fix; they are handled as if new."""
    payload = None if options["edit"] is None else read_payload(options["edit"])
    state, chosen = choose(context, ids, options)
    some = bool(chosen)
    with asking(state):
        chosen = without_expired(state, chosen, named=bool(ids))
    with loading.told():
        edited = edit(state, chosen, payload) if options["edit"] is not None else {}
    moved: dict[str, int] = {}
    with asking(state):
        for name, records in chosen.items():
            keys = [one.key for one in records]
            for part in paced(keys, options["rate"]):
                moved[name] = moved.get(name, 0) + state.inspector.replay(name, part, edited)
    if moved or as_json or not some:
        _tell(moved, "back on", as_json)


@dead.command(
    "delete",
    epilog="\b\nExamples:\n  flask queue dead delete 53495fdb\n"
    "  flask queue dead delete --all --queue orders --yes",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@all_option
@group_option
@queue_option
@yes_option
@json_option
@click.pass_context
def dead_delete(
    context: click.Context, /, ids: Sequence[str], as_json: bool, **options: Any
) -> None:
    """Delete dead letters for good; the ledger counts them as purged."""
    state, chosen = choose(context, ids, options)
    count = sum(len(records) for records in chosen.values())
    if count:
        letters = "1 dead letter" if count == 1 else f"{count:,} dead letters"
        confirm(f"This deletes {letters} of {', '.join(chosen)} for good.", yes=options["yes"])
    gone: dict[str, int] = {}
    with asking(state):
        for name, records in chosen.items():
            gone[name] = state.inspector.delete(name, [one.key for one in records])
    _tell(gone, "deleted from", as_json)


@dead.command(
    "export", epilog="\b\nExample:\n  flask queue dead export --queue orders -o dead.jsonl"
)
@queue_option
@click.option(
    "-o", "--output", type=click.File("w"), default="-", help="Where to.  [default: the terminal]"
)
@click.pass_context
def dead_export(context: click.Context, only: str | None, output: Any) -> None:
    """Write dead letters as JSON lines, oldest first, with their exact bytes; they stay."""
    state = loading.load_state(context)
    with asking(state):
        for record in of_group(state, only, None):
            output.write(json_text(as_dict(record), output) + "\n")


def _tell(counts: dict[str, int], what: str, as_json: bool) -> None:
    if as_json:
        print_json(counts)
        return
    for name, count in counts.items():
        put(f"{count:,} {what} {name}.")
    if not counts:
        put("No dead letters.")


def as_dict(one: DeadLetterRecord) -> dict[str, Any]:
    """:return: What is known of a dead letter, for people and machines."""
    return {
        "key": one.key,
        "queue": one.delivery.queue,
        "id": one.id,
        "type": one.type,
        "group": one.group,
        "died": moment(one.died),
        "deaths": one.delivery.deaths,
        **{name: value for name, value in one.meta.items() if name not in ("id", "type")},
        **raw_fields(one.delivery),
    }
