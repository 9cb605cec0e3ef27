"""Commands that come from an entry point, yet need an app.

Flask finds plugin commands before an app's own and without loading it. So a broken import gets our
sentence and an exit code; and a command of the same name that the app registers itself wins.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo

from ..exceptions import ConfigurationError, QueueRefused, QueueUnavailable, RedisQueueError
from ..state import AppState, state_of
from .lines import visible

USAGE, MISCONFIGURED, UNREACHABLE, REFUSED, DEAD_LETTERS, LATE = 2, 3, 4, 5, 6, 7


class Failure(click.ClickException):
    """A sentence on standard error, and an exit code.

    :param message: What happened, and what to do.
    :param exit_code: As the table in the README says.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(visible(message, lines=True))
        self.exit_code = exit_code  # type: ignore[misc]


class YieldingCommand(click.Command):
    """A command that gives way to the app's own command of its name."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Make the context of this command, or of the one that the app has in its place."""
        own = _own_command(info_name, parent)
        if own is not None:
            return own.make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


class YieldingGroup(YieldingCommand, click.Group):
    """A group that gives way to the app's own command of its name."""


def _own_command(name: str | None, parent: click.Context | None) -> click.Command | None:
    if parent is None or name is None or parent.resilient_parsing:
        return None
    try:
        app = parent.ensure_object(ScriptInfo).load_app()
    except Exception:
        return None  # the command says it, where it needs the app; --help needs none
    own = app.cli.commands.get(name)
    if own is not None:
        parent.with_resource(app.app_context())
    return own


def load_app(context: click.Context) -> Flask:
    """Load the app that ``flask --app`` names.

    :raises Failure: If it cannot be imported; its own traceback is printed before.
    """
    try:
        return context.ensure_object(ScriptInfo).load_app()
    except click.UsageError:
        raise
    except RedisQueueError as error:
        raise Failure(str(error), MISCONFIGURED) from error
    except Exception as error:
        raise _broken("The app could not be imported", error) from error


def load_state(context: click.Context) -> AppState:
    """Load the app, and import its handlers.

    :raises Failure: If that fails, or the app has no queue.
    """
    app = load_app(context)
    try:
        state = state_of(app)
        with app.app_context():
            state.import_handlers()
    except RedisQueueError as error:
        raise Failure(str(error), MISCONFIGURED) from error
    except Exception as error:
        raise _broken(f'The handlers of "{app.name}" could not be imported', error) from error
    return state


@contextmanager
def told() -> Iterator[None]:
    """Turn this package's errors into sentences and exit codes."""
    try:
        yield
    except QueueRefused as error:
        raise Failure(str(error), REFUSED) from error
    except QueueUnavailable as error:
        raise Failure(str(error), UNREACHABLE) from error
    except ConfigurationError as error:
        raise Failure(str(error), MISCONFIGURED) from error
    except (RedisQueueError, ValueError) as error:
        raise Failure(str(error), USAGE) from error


class Crash(Exception):
    """A fault while running; it passes all sentences by, to end with its traceback and 1."""


@contextmanager
def running() -> Iterator[None]:
    """Keep what fails while running apart from what :func:`told` says of the setup.

    :raises Crash: For what would be taken for a mistake of the user's: a service that is told not
        to start again after one would stay down.
    """
    try:
        yield
    except (QueueUnavailable, ConfigurationError):
        raise
    except (RedisQueueError, ValueError) as error:
        raise Crash(
            f"The consumer crashed: {type(error).__name__}: {error}. No message is lost: what it "
            "held comes again. Start it again, and report this."
        ) from error


def _broken(what: str, error: Exception) -> Failure:
    # The frames before the user's own code are Flask's and ours: they help nobody.
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    click.echo(text, err=True)
    return Failure(f"{what}: {type(error).__name__}: {error}", USAGE)


def _is_machinery(filename: str) -> bool:
    return (
        filename.startswith("<frozen importlib")
        or "flask_redis_queue" in filename
        or filename.endswith(("importlib/__init__.py", "flask/cli.py"))
    )
