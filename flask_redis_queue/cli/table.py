"""The start table of ``flask consume``: what will be consumed, from where, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

import click
from flask import Flask

from ..config import Config
from ..inspector import QueueStatus, ServerFacts
from ..registry import Handler, Registry
from ..retry import RetryPolicy
from .lines import line


def version() -> str:
    """:return: The installed version of this package."""
    try:
        return metadata.version("Flask-Redis-Queue")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def print_table(
    app: Flask,
    config: Config,
    registry: Registry,
    queues: Sequence[QueueStatus],
    consumer: str,
    server: ServerFacts,
) -> None:
    """Print what will be consumed, from where, and by what."""
    click.echo(
        f" {click.style(app.name, bold=True)} · flask-redis-queue {version()} · "
        f"consumer {consumer} · 1 thread"
    )
    facts = [f"{config.safe_url} ({config.origin})", server.version, server.persistence]
    facts.append(server.eviction)
    click.echo(f" redis    {' · '.join(fact for fact in facts if fact)}")
    waiting = ", ".join(f"{one.queue} ({one.waiting:,} waiting)" for one in queues)
    click.echo(f" queues   {waiting}")
    click.echo(" handlers")
    names = [one.queue for one in queues]
    rows = [_handler_row(one) for one in registry.handlers if one.queue in names]
    rows += [row for name in names if (row := _untyped_row(registry, name)) is not None]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo(f"   {'   '.join([*cells, row[4]])}".rstrip())
    if server.eviction and server.eviction != "noeviction":
        line(
            "!",
            "yellow",
            f"maxmemory-policy is {server.eviction}: Redis may delete messages. Set it to "
            "noeviction.",
            cut=False,
        )


def _handler_row(one: Handler) -> list[str]:
    schema = one.contract.schema_class.__name__ if one.contract else "(no schema)"
    policy = one.policy
    tries = str(policy) if isinstance(policy, RetryPolicy) else "own retry policy"
    return [one.type or "(untyped)", one.queue or "", one.place, schema, tries]


def _untyped_row(registry: Registry, queue: str) -> list[str] | None:
    found = registry.find(queue, None)
    if found is None:
        return ["(untyped)", queue, "dead letters", "", ""]
    return None if found.type is None else ["(untyped)", queue, f"as {found.type}", "", ""]


def print_ready(seconds: float) -> None:
    """Say that Redis has accepted all that a consumer does."""
    click.echo(f" ready in {seconds:.2f}s · Ctrl-C to stop\n")
