"""``flask consume``."""

from __future__ import annotations

import os
import time
from typing import Any

import click
from redis.exceptions import RedisError

from .. import clients, diagnosis
from ..consumer import Consumer
from ..durations import seconds
from ..exceptions import QueueRefused, QueueUnavailable
from ..inspector import ServerFacts
from ..pace import Limits
from ..state import AppState
from . import loading
from .lines import line
from .reporter import Reporter
from .table import print_ready, print_table


class DurationParam(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Seconds, or text such as ``30s`` or ``5m``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Turn what was typed into seconds."""
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, context)


DURATION = DurationParam()


@click.command("consume", cls=loading.YieldingCommand)
@click.argument("queues", nargs=-1)
@click.option(
    "-b",
    "--burst",
    is_flag=True,
    help="Stop when the queues are empty; what is delayed stays for the next run.",
)
@click.option(
    "--max-messages", type=click.IntRange(1), metavar="N", help="Stop after so many messages."
)
@click.option("--max-seconds", type=DURATION, metavar="S", help="Stop after this time.")
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
@click.option("-v", "--verbose", is_flag=True, help="Whole tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Only failures and trouble.")
@click.pass_context
def consume(
    context: click.Context,
    queues: tuple[str, ...],
    burst: bool,
    max_messages: int | None,
    max_seconds: float | None,
    stop_timeout: float | None,
    wait_for_redis: float,
    name: str | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Handle the messages of QUEUES, in the order given.

    No QUEUES means every queue that the app has a handler for.

    \b
    Exit codes: 0 stopped as asked · 1 crash · 2 usage, or the app could not
    be imported · 3 app misconfigured · 4 Redis not reachable in time ·
    5 Redis refused the login or a command · 6 --burst ended with new dead
    letters · 7 stop timeout; unfinished messages were handed back
    """
    started = time.monotonic()
    state = loading.load_state(context)
    limits = Limits(burst, max_messages or 0, max_seconds or 0.0)
    with loading.told():
        consumer = state.make_consumer(
            queues,
            name=name,
            limits=limits,
            stop_timeout=stop_timeout,
            on_ready=lambda: None if quiet else print_ready(time.monotonic() - started),
            on_stuck=_exit_stuck,
        )
        server = wait_for(state, wait_for_redis)
        if not quiet:
            statuses = [state.inspector.status(queue) for queue in consumer.queues]
            print_table(state.app, state.config, state.registry, statuses, consumer.name, server)
        _run(context, state, consumer, 1 if verbose else -1 if quiet else 0)


def _run(context: click.Context, state: AppState, consumer: Consumer, verbosity: int) -> None:
    with Reporter(state.app, verbosity) as reporter:
        tally = consumer.run()
        reporter.stopped(tally)
    if consumer.was_late:
        context.exit(loading.LATE)
    if consumer.limits.burst and tally.dead:
        context.exit(loading.DEAD_LETTERS)


def wait_for(state: AppState, patience: float) -> ServerFacts:
    """Wait until Redis answers.

    :param state: Whose Redis.
    :param patience: For how many seconds.
    :return: What the server says of itself.
    :raises QueueUnavailable: If it does not answer in time.
    :raises QueueRefused: If it refuses the login.
    """
    deadline = time.monotonic() + patience
    config = state.config
    said = False
    for pause in clients.backoff():
        try:
            return state.inspector.server()
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
                line(
                    "!", "yellow", f"Redis at {config.safe_url} {why}; waiting up to {patience:g}s"
                )
                said = True
            time.sleep(pause)
    raise AssertionError("backoff never ends")


def _exit_stuck() -> None:
    # The handler sits where no signal reaches it: nothing in this process can end it but its end.
    line("■", "blue", "stopped · the handler did not end; its message was handed back")
    os._exit(loading.LATE)
