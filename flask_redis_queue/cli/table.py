"""The start table of ``flask consume``: what will be consumed, from where, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from ..consumer import Consumer
from ..handlers import Handler
from ..inspector import QueueStatus, ServerFacts
from ..registry import Registry
from ..retry import RetryPolicy
from ..state import AppState
from .lines import columns, style


def version() -> str:
    """:return: The installed version of this package."""
    try:
        return metadata.version("Flask-Redis-Queue")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def start_table(
    state: AppState,
    queues: Sequence[QueueStatus],
    consumer: Consumer,
    server: ServerFacts,
    processes: int,
) -> tuple[list[str], dict[str, Any]]:
    """Say what will be consumed, from where, and by what.

    :return: Lines for people, and the same for machines.
    """
    app, config, registry = state.app, state.config, state.registry
    threads = "1 thread" if consumer.concurrency == 1 else f"{consumer.concurrency} threads"
    if processes > 1:
        threads = f"{processes} processes with {threads} each"
    facts = [f"{config.safe_url} ({config.origin})", server.version, server.persistence]
    facts.append(server.eviction)
    names = [one.queue for one in queues]
    lines = [
        f" {style(app.name, bold=True)} · flask-redis-queue {version()} · "
        f"consumer {consumer.name} · {threads}",
        f" redis    {' · '.join(fact for fact in facts if fact)}",
        f" queues   {', '.join(f'{one.queue} ({one.waiting:,} waiting)' for one in queues)}",
        " handlers",
        *(f"   {row}" for row in columns(handler_rows(registry, names))),
    ]
    fields: dict[str, Any] = {
        "app": app.name,
        "version": version(),
        "consumer": consumer.name,
        "processes": processes,
        "threads": consumer.concurrency,
        "redis": config.safe_url,
        "origin": config.origin,
        "server": server.version,
        "persistence": server.persistence,
        "eviction": server.eviction,
        "queues": {one.queue: one.waiting for one in queues},
        "handlers": handler_dicts(registry, names),
    }
    return lines, fields


def handler_rows(registry: Registry, queues: Sequence[str]) -> list[list[str]]:
    """:return: Type, queue, place, Schema and retry policy of each handler; untyped ones last."""
    rows = [
        [one["type"] or "(untyped)", one["queue"], one["handler"], one["schema"], one["retry"]]
        for one in handler_dicts(registry, queues)
    ]
    for queue in queues:
        found = registry.find(queue, None)
        if found is None:
            rows.append(["(untyped)", queue, "dead letters", "", ""])
        elif found.type is not None:
            rows.append(["(untyped)", queue, f"as {found.type}", "", ""])
    return rows


def handler_dicts(registry: Registry, queues: Sequence[str]) -> list[dict[str, Any]]:
    """:return: The same of each handler, for machines."""
    return [_as_dict(one) for one in registry.handlers if one.queue in queues]


def _as_dict(one: Handler) -> dict[str, Any]:
    policy = one.policy
    return {
        "type": one.type,
        "queue": one.queue or "",
        "handler": one.place,
        "schema": one.contract.schema_class.__name__ if one.contract else "(no schema)",
        "retry": str(policy) if isinstance(policy, RetryPolicy) else "own retry policy",
    }
