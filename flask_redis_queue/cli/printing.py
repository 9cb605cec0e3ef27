"""What the commands of ``flask queue`` share: tables, JSON, errors, questions."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from redis.exceptions import RedisError

from .. import diagnosis
from ..envelope import Delivery
from ..exceptions import QueueRefused, QueueUnavailable
from ..inspector import QueueStatus
from ..state import AppState
from . import loading
from .lines import WIDTH, columns, shorten, style, visible
from .writing import is_terminal, json_text, put

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
queue_option = click.option(
    "--queue", "only", metavar="QUEUE", help="Only this queue.  [default: all the app knows]"
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@contextmanager
def asking(state: AppState) -> Iterator[None]:
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


def queues_of(state: AppState, only: str | None) -> list[str]:
    """Say where to look.

    :param state: Whose queues.
    :param only: The queue that was named.
    :return: That one, or every queue that the app knows.
    :raises Failure: If there is no such queue.
    """
    known = state.registry.known_queues
    if not only:
        return known
    if only not in known:
        check_is_there(state, state.inspector.status(only))
    return [only]


def check_is_there(state: AppState, status: QueueStatus) -> None:
    """Tell a queue that is empty from one that is not.

    :raises Failure: If neither the app nor Redis knows it.
    """
    known = [*state.registry.known_queues, state.config.queue_name]
    if status.queue not in known and not status.is_there:
        raise loading.Failure(
            f'No queue "{status.queue}": this app does not know it, and Redis has nothing of it. '
            f"This app knows: {', '.join(state.registry.known_queues)}.",
            1,
        )


def print_json(value: Any) -> None:
    """Print a value."""
    put(json_text(value, indent=2))


def print_columns(rows: list[list[str]], notes: Sequence[str] = ()) -> None:
    """Print a table.

    :param rows: The first one is the head.
    :param notes: What stands below each row.
    """
    for number, text in enumerate(columns([[visible(cell) for cell in row] for row in rows])):
        put(style(text, bold=True) if number == 0 and is_terminal() else text)
        if number and notes:
            note = visible(" ".join(notes[number - 1].split()))
            put(f"    {shorten(note, WIDTH - 4) if is_terminal() else note}")


def print_fields(fields: dict[str, Any]) -> None:
    """Print what is known of one message, its bytes and its traceback last."""
    for name, value in fields.items():
        if name not in ("traceback", "raw", "raw_base64") and value is not None:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            put(visible(f"{name:<10} {shown}"))
    raw = base64.b64decode(fields["raw_base64"])
    put(f"\n{len(raw):,} bytes:")
    put(shorten(visible(raw.decode(errors="backslashreplace"), lines=True), 4000))
    if fields.get("traceback"):
        put(visible(f"\n{fields['traceback'].rstrip()}", lines=True))


def raw_fields(delivery: Delivery) -> dict[str, Any]:
    """:return: The exact bytes, as text if they are any, and as base64."""
    try:
        text: str | None = delivery.raw.decode()
    except UnicodeDecodeError:
        text = None
    return {"raw": text, "raw_base64": base64.b64encode(delivery.raw).decode()}


def moment(seconds: float | None) -> str | None:
    """:return: Unix seconds as ISO text."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed.

    :param question: What will happen, and to how many.
    :param yes: Whether the answer was given on the command line.
    :raises Failure: If there is nobody to ask.
    :raises click.Abort: If the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise loading.Failure(f"{question} Nobody is here to be asked: pass --yes.", loading.USAGE)
    click.confirm(f"{question} Go on?", abort=True)


def read_payload(given: str) -> Any:
    """Read a payload that was typed.

    :param given: JSON, the name of a file behind ``@``, or ``-`` for standard input.
    :return: The value.
    :raises click.UsageError: If it cannot be read, or is not JSON.
    """
    try:
        if given == "-" or given.startswith("@"):
            with click.open_file(given.removeprefix("@"), encoding="utf-8") as file:
                given = file.read()
        return json.loads(given)
    except (OSError, ValueError) as error:
        what = "could not be read" if isinstance(error, OSError) else "is not JSON"
        raise click.UsageError(f"The payload {what}: {error}. Nothing was changed.") from error
