"""What the documentation names is there, and what is there is named."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from blinker import NamedSignal

import flask_redis_queue
from flask_redis_queue import config, signals
from flask_redis_queue.cli import consume, queue
from flask_redis_queue.durations import seconds
from flask_redis_queue.exceptions import RedisQueueError

from ..apps import GOODS, StockSupplied, make_app
from ..faults.test_crash_points import POINTS
from .blocks import ROOT, pages

DOCS = ROOT / "docs"
FAILURES = DOCS / "failures.md"
ELSEWHERE = {
    *("REDIS_ACL", "REDIS_QUEUES", "REDIS_CONF", "REDIS_SERVER_BINARY"),  # of the image and tests
    *("REDIS_SSL_", "REDIS_QUEUE_"),  # as the beginning of a name
}


def _cells(page: str, first: str) -> list[str]:
    """:return: The cells of the row of a table that begins with a name."""
    for line in (DOCS / page).read_text().splitlines():
        if re.match(rf"\|[^|]*`{re.escape(first)}`", line):
            return [cell.strip() for cell in line.strip("|").split(" | ")]
    raise AssertionError(f"{page} has no row for {first}")


def _keys() -> dict[str, str]:
    return {key: name for name, (key, _) in config._KEYS.items()}


def test_every_setting_has_a_row() -> None:
    """The tables of settings are complete, in the README too, and invent nothing."""
    readme = (ROOT / "README.md").read_text()
    known = {*_keys(), *config._CONNECTION}
    for key in known:
        assert _cells("configuration.md", key)
        assert f"`{key}`" in readme
    for path in pages():
        named = set(re.findall(r"\bREDIS_[A-Z_]+", path.read_text()))
        assert set() == named - known - ELSEWHERE, path


@pytest.mark.parametrize("key", [key for key in _keys() if key != "REDIS_QUEUE_RETRY"])
def test_defaults_are_the_real_ones(key: str) -> None:
    """A default of the table is what the code has."""
    default = getattr(config.load({}, {}), _keys()[key])
    shown = _cells("configuration.md", key)[1].strip("`").replace(" ", "").replace("min", "m")
    if shown == "none":
        assert 0 == default
    elif shown == "1MiB":
        assert 1024**2 == default
    elif isinstance(default, str):
        assert shown == default
    else:
        assert seconds(shown) == default


def test_every_error_has_a_row() -> None:
    """Each error is there with its code."""
    for one in (RedisQueueError, *RedisQueueError.__subclasses__(), flask_redis_queue.QueueRefused):
        assert f"`{one.error_code}`" == _cells("errors.md", one.__name__)[1]


def test_every_public_name_is_in_the_api() -> None:
    """The page of the API has all that can be imported."""
    text = (DOCS / "api.md").read_text()
    assert [] == [
        name for name in flask_redis_queue.__all__ if not re.search(rf":: {name}\b", text)
    ]


def test_signals_have_the_arguments_of_the_table(redis_url: str) -> None:
    """A receiver gets what the table says."""
    app, shop = make_app(redis_url)
    got: dict[str, set[str]] = {}

    @shop.handler(StockSupplied, retry=2)
    def handle(supplied: dict[str, Any]) -> None:
        if supplied["quantity"] == 2:
            raise KeyError(2)

    def note(name: str) -> Any:
        return lambda sender, **extra: got.setdefault(name, set(extra))

    receivers = {name: note(name) for name, one in vars(signals).items() if _is_signal(one)}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver, sender=app)
    with app.app_context():
        shop.send_many(StockSupplied, [{**GOODS, "quantity": n} for n in (1, 2)])
    shop.consumer(app, max_messages=3, max_seconds=20).run()
    got["message_lost_lease"] = {"message"}  # a test of processes makes one
    assert set(receivers) == set(got)
    for name, arguments in got.items():
        assert set(re.findall(r"`(\w+)`", _cells("signals.md", name)[2])) == arguments, name


def _is_signal(value: object) -> bool:
    return isinstance(value, NamedSignal)


def test_the_extras_exist() -> None:
    """What the table of extras names can be installed."""
    text = (DOCS / "configuration.md").read_text().partition("## Extras")[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"^\| `(\w+)`", text, re.M))
    assert named and named <= set(project["optional-dependencies"])


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for sub, one in command.commands.items():
            yield from _commands(one, f"{name} {sub}".strip())
    else:
        yield name, command


def test_every_command_and_option_is_named() -> None:
    """The page of the commands has each command and each option."""
    text = (DOCS / "cli.md").read_text()
    missing = []
    for name, command in [*_commands(queue, ""), ("flask consume", consume)]:
        if f"`{name}" not in text:
            missing.append(name)
        for one in command.params:
            if isinstance(one, click.Option):
                missing += [f"{name} {o}" for o in one.opts if f"`{o}" not in text]
    assert [] == missing


def test_the_tests_that_are_named_exist() -> None:
    """A promise names its test by its real name, or by a beginning that some have."""
    real = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    for path in pages():
        for name in re.findall(r"`(test_\w+\*?)`", path.read_text()):
            if name.endswith("*"):
                assert any(one.startswith(name[:-1]) for one in real), f"{path.name}: {name}"
            else:
                assert name in real, f"{path.name}: {name}"


def test_the_table_of_failures_is_what_is_tested() -> None:
    """Each point at which a consumer is killed has its row, with the outcomes that are asserted."""
    rows = re.findall(r"^\| `([^`]+)` \|.*\| (\d, \d) \| (\d, \d) \|$", FAILURES.read_text(), re.M)
    tested = [
        (name, *("{}, {}".format(*one) for one in (row.alone, row.supervised)))
        for name, row in POINTS.items()
    ]
    assert tested == rows


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link is a file of this project."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target.partition("#")[0]).exists(), target
