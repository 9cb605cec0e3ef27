"""Commands that no test can run on just any machine, each with another check; and files of data."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from flask_redis_queue.cli import consume, queue

from .blocks import ROOT, Block, Command
from .console import words

Check = Callable[[Command, dict[str, str]], None]


def find(command: str) -> Check | None:
    """:return: How a command is checked that is not run; ``None``: it is run."""
    return next((check for begin, check in _ALLOWED.items() if command.startswith(begin)), None)


def check_data(block: Block, folder: Path) -> None:
    """Parse a file that a page shows, and check the commands in it.

    :param block: The block.
    :param folder: Where its file was written, if it names one.
    """
    if block.language == "json":
        shown = json.loads(block.text)
        golden = [json.loads(one.read_text()) for one in (ROOT / "docs" / "golden").iterdir()]
        assert block.file or shown in golden, f"{block.place} is none of docs/golden"
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "ini":
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(block.text)
        if parser.has_section("Service"):
            check_flask(words(parser["Service"]["ExecStart"]))
            _verify_unit(folder / str(block.file).lstrip("/"))
    elif block.language == "yaml":
        documents = list(yaml.safe_load_all(block.text))
        assert all(documents), f"{block.place} is empty"
        for line in _commands_in(documents):
            check_flask(line)
    else:
        raise AssertionError(f"{block.place}: a {block.language or 'plain'} block is not checked")


def check_flask(line: Sequence[str]) -> None:
    """Parse what follows ``flask``, without running it; others are left alone."""
    if line[:2] == ["sh", "-c"]:
        line = words(line[2])
    names = [number for number, word in enumerate(line) if word in ("consume", "queue")]
    if not names or not any(word.endswith("flask") for word in line):
        return
    command: click.Command = {"consume": consume, "queue": queue}[line[names[0]]]
    rest = list(line[names[0] + 1 :])
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def _commands_in(value: Any) -> Iterator[list[str]]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _commands_in(one)
    elif isinstance(value, list):
        if value and all(isinstance(one, str) for one in value):
            yield value
        for one in value:
            yield from _commands_in(one)


def _verify_unit(path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    # The unit's own program and folders are not here: a copy names some that are.
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", path.read_text(), flags=re.M)
    text = re.sub(r"^(User|WorkingDirectory|EnvironmentFile)=.*\n", "", text, flags=re.M)
    copy = path.with_name(f"copy-{path.name}")
    copy.write_text(text)
    environ = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    done = subprocess.run(
        [program, "verify", "--man=no", str(copy)], capture_output=True, text=True, env=environ
    )
    said = [line for line in done.stderr.splitlines() if copy.name in line]
    assert [] == said


def _pip(command: Command, files: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = re.search(r"(Flask-Redis-Queue)(?:\[(?P<extras>[\w,]+)\])?", command.text)
    assert found is not None, command
    for extra in (found["extras"] or "").split(","):
        assert not extra or extra in project["optional-dependencies"], f"no such extra: {extra}"


def _make(command: Command, files: dict[str, str]) -> None:
    target = words(command.text)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), f"no target {target}"


def _compose(command: Command, files: dict[str, str]) -> None:
    names = ("REDIS", "MARIADB_ROOT", "SUPPLY_DATABASE", "INVENTORY_DATABASE")
    environ = {**os.environ, **{f"{name}_PASSWORD": "x" for name in names}}
    program = Path(sys.executable).with_name("docker-compose")
    arguments = ["--file", str(ROOT / "docker-compose.yml"), "--env-file", "/dev/null"]
    done = subprocess.run(
        [str(program), *arguments, "config", "-q"], env=environ, capture_output=True, text=True
    )
    assert 0 == done.returncode, done.stderr


def _docker(command: Command, files: dict[str, str]) -> None:
    assert (ROOT / "Dockerfile").is_file() and (ROOT / "redis.conf").is_file()


def _example_env(command: Command, files: dict[str, str]) -> None:
    assert (ROOT / ".env.example").is_file()


def _names_a_file_of_the_page(command: Command, files: dict[str, str]) -> None:
    named = re.sub(r"@\w+\.", "@.", words(command.text)[-1])  # an instance is of its template
    known = {Path(name).name for name in files}
    assert Path(named).name in known, f"{named} is not on the page: {sorted(known)}"


# What cannot run here: it would install, need an engine or a cluster, or run these tests again.
_ALLOWED: dict[str, Check] = {
    "pip install": _pip,
    "make test": _make,
    "docker build": _docker,
    "docker run": _docker,
    "docker compose": _compose,
    "cp .env.example": _example_env,
    "systemctl": _names_a_file_of_the_page,
    "journalctl": _names_a_file_of_the_page,
    "kubectl": _names_a_file_of_the_page,
}
