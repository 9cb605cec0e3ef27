"""``flask consume``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from flask.helpers import get_debug_flag
from redis.exceptions import RedisError

from .. import clients, diagnosis
from ..consumer import Consumer
from ..exceptions import QueueRefused, QueueUnavailable
from ..inspector import QueueStatus, ServerFacts
from ..pace import Limits
from ..state import AppState
from . import loading, reloading, workers
from .ending import End
from .output import Event, TextOutput, make_output
from .params import DURATION, SIZE
from .printing import asking
from .reporter import Reporter
from .table import start_table

_EPILOG = """
\b
Examples:
  flask --app inventory consume
  flask --app inventory consume urgent inventory_updates
  flask --app inventory consume --burst
  flask --app inventory consume --check

\b
Exit codes: 0 stopped as asked · 1 crash · 2 usage, or the app could not
be imported · 3 app misconfigured · 4 Redis not reachable in time ·
5 Redis refused the login or a command · 6 --burst ended with new dead
letters · 7 stop timeout; unfinished messages were handed back
"""


@click.command("consume", cls=loading.YieldingCommand, epilog=_EPILOG)
@click.argument("queues", nargs=-1)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=1,
    metavar="N",
    help="Threads that run handlers.  [default: 1, which keeps the order of the queue]",
)
@click.option(
    "-p",
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    metavar="N",
    help="Worker processes, started again when they end.  [default: 1, this one]",
)
@click.option(
    "-b",
    "--burst",
    is_flag=True,
    help="Stop when the queues are empty; what is delayed stays for the next run. On a terminal "
    "with a progress bar.",
)
@click.option(
    "--max-messages", type=click.IntRange(1), metavar="N", help="Stop after so many messages."
)
@click.option("--max-seconds", type=DURATION, metavar="S", help="Stop after this time.")
@click.option(
    "--max-memory",
    type=SIZE,
    metavar="SIZE",
    help="Stop when the process uses more, such as 512M; with -p start anew, and kill what goes on "
    "to one and a half times.",
)
@click.option(
    "--stop-timeout",
    type=DURATION,
    metavar="S",
    help="What a running handler gets after SIGTERM.  [default: REDIS_QUEUE_STOP_TIMEOUT, 25s]",
)
@click.option(
    "--wait-for-redis",
    type=DURATION,
    default=10.0,
    metavar="S",
    help="How long Redis may be away at the start.  [default: 10s]",
)
@click.option("--name", metavar="TEXT", help="Name of this consumer.  [default: host and pid]")
@click.option(
    "--check", is_flag=True, help="Load the app, check Redis and the handlers, print them, exit."
)
@click.option(
    "--log-format",
    type=click.Choice(["pretty", "plain", "json"]),
    help="[default: pretty on a terminal, else plain]",
)
@click.option(
    "--reload/--no-reload",
    default=None,
    help="Start anew when Python code changes; the running handler finishes.  [default: on with "
    "flask --debug]",
)
@click.option("-v", "--verbose", is_flag=True, help="Whole tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Only failures and trouble.")
@click.pass_context
def consume(context: click.Context, /, queues: tuple[str, ...], **options: Any) -> None:
    """Handle the messages of QUEUES, in the order given.

    No QUEUES means every queue that the app has a handler for.
    """
    started = time.monotonic()
    place, alive = workers.find_place() or (None, -1)
    if place is None and not options["check"] and _reloads(options["reload"]):
        context.exit(reloading.run(Path.cwd()))
    state = loading.load_state(context)
    output = make_output(options["log_format"], bar=None)
    tell_ready = partial(_ready, output, started, options["quiet"])
    end = End(output, place.set_left) if place else End(output)
    with asking(state), workers.refused_once(place), end.running():
        consumer = _make_consumer(state, queues, options, end, place, tell_ready)
        facts = wait_for(state, consumer.queues, output, options["wait_for_redis"])
        if place is not None:
            workers.stop_with_supervisor(alive, consumer)
            return _run(context, state, consumer, output, options["verbose"] - options["quiet"])
        waiting = _introduce(state, consumer, output, facts, options)
        if options["check"]:
            consumer.check()
            output.say(Event("checked", "✓", "green", "all is well; nothing was consumed"))
        elif options["processes"] > 1:
            context.exit(_supervise(state, consumer, output, options, tell_ready))
        else:
            wants_bar = options["burst"] and not (options["verbose"] or options["quiet"])
            output = make_output(options["log_format"], bar=waiting if wants_bar else None)
            _run(context, state, consumer, output, options["verbose"] - options["quiet"])


def _make_consumer(
    state: AppState,
    queues: Sequence[str],
    options: dict[str, Any],
    end: End,
    place: workers.Place | None,
    tell_ready: Callable[[], None],
) -> Consumer:
    limits = Limits(
        options["burst"],
        options["max_messages"] or 0,
        options["max_seconds"] or 0.0,
        options["max_memory"] or 0,
    )
    return state.make_consumer(
        queues,
        name=place.name if place else options["name"],
        limits=limits,
        stop_timeout=options["stop_timeout"],
        on_ready=place.set_ready if place else tell_ready,
        on_stuck=end.stuck,
        concurrency=options["concurrency"],
        seats=place.seats() if place else (),
        voice=place.voice() if place else None,
        on_left=end.left,
    )


def _supervise(
    state: AppState,
    consumer: Consumer,
    output: TextOutput,
    options: dict[str, Any],
    tell_ready: Callable[[], None],
) -> int:
    consumer.check()  # what every worker would meet is said once
    stop_timeout = options["stop_timeout"]
    with Reporter(state.app, output, 1 if options["verbose"] else 0), loading.running():
        return workers.supervise(
            state,
            consumer.name,
            options["processes"],
            stop_timeout=state.config.stop_timeout if stop_timeout is None else stop_timeout,
            once=options["burst"] or bool(options["max_seconds"]),
            max_memory=options["max_memory"] or 0,
            on_ready=tell_ready,
        )


def _reloads(wanted: bool | None) -> bool:
    if wanted is False or reloading.is_child():
        return False
    if not reloading.is_installed():
        if wanted:
            raise loading.Failure(
                "--reload needs a package that watches files: pip install "
                '"Flask-Redis-Queue[reload]"',
                loading.USAGE,
            )
        return False
    return wanted or get_debug_flag()


def _introduce(
    state: AppState,
    consumer: Consumer,
    output: TextOutput,
    facts: tuple[ServerFacts, list[QueueStatus]],
    options: dict[str, Any],
) -> int:
    """Print the start table.

    :return: How many messages wait.
    """
    server, statuses = facts
    if not options["quiet"]:
        lines, fields = start_table(state, statuses, consumer, server, options["processes"])
        output.start(lines, fields)
        if server.eviction not in ("", "noeviction"):
            text = (
                f"maxmemory-policy is {server.eviction}: Redis may delete messages. Set it to "
                "noeviction."
            )
            output.say(Event("trouble", "!", "yellow", text, cut=False))
    return sum(one.waiting for one in statuses)


def _ready(output: TextOutput, started: float, is_quiet: bool) -> None:
    took = time.monotonic() - started
    if not is_quiet:
        output.ready(f" ready in {took:.2f}s · Ctrl-C to stop\n", {"duration": round(took, 3)})


def _run(
    context: click.Context,
    state: AppState,
    consumer: Consumer,
    output: TextOutput,
    verbosity: int,
) -> None:
    with Reporter(state.app, output, verbosity) as reporter, loading.running():
        tally = consumer.run()
        reporter.stopped(tally)
    if consumer.was_late:
        context.exit(loading.LATE)
    if consumer.limits.burst and tally.dead:
        context.exit(loading.DEAD_LETTERS)


def wait_for(
    state: AppState, queues: Sequence[str], output: TextOutput, patience: float
) -> tuple[ServerFacts, list[QueueStatus]]:
    """Wait until Redis answers.

    :param state: Whose Redis.
    :param queues: What to look at.
    :param output: Where to say that it is away.
    :param patience: For how many seconds.
    :return: What the server says of itself, and the queues.
    :raises QueueUnavailable: If it does not answer in time.
    :raises QueueRefused: If it refuses the login.
    """
    deadline = time.monotonic() + patience
    config = state.config
    said = False
    for pause in clients.backoff():
        try:
            server = state.inspector.server()
            return server, [state.inspector.status(queue) for queue in queues]
        except (diagnosis.NotSent, RedisError) as error:
            if diagnosis.kind(error) != "away":
                raise QueueRefused(diagnosis.refusal(error, config)) from error
            why = diagnosis.explain(error, config)
            if time.monotonic() + pause >= deadline:
                raise QueueUnavailable(
                    f"Redis at {config.safe_url} {why}, and was not there within {patience:g}s. "
                    "Nothing was consumed. Start it (for development: flask queue server), or "
                    "check REDIS_URL."
                ) from error
            if not said:
                text = f"Redis at {config.safe_url} {why}; waiting up to {patience:g}s"
                output.say(Event("trouble", "!", "yellow", text, cut=False))
                said = True
            time.sleep(pause)
    raise AssertionError("backoff never ends")
