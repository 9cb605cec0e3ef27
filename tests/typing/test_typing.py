"""mypy and pyright take what is right, and refuse each line that is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAMES = ("right.py", "wrong.py")
Lines = dict[str, dict[int, str]]
MARK = re.compile(r"# E: [a-z-]+$", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's code, away from this project and its settings."""
    made = tmp_path_factory.mktemp("user")
    for name in NAMES:
        shutil.copy(HERE / name, made / name)
    return made


def by_mypy(folder: Path) -> Lines:
    """:return: The lines that mypy refuses, and why."""
    command = ["mypy", "--strict", "--config-file=", f"--python-executable={sys.executable}"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--no-pretty", "--no-color-output", *NAMES],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Lines = {name: {} for name in NAMES}
    for name, line, text in re.findall(r"^(\S+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        found[name][int(line)] = text
    assert "Found" in done.stdout, done.stdout + done.stderr
    return found


def by_pyright(folder: Path) -> Lines:
    """:return: The lines that pyright refuses, and why."""
    settings = {"extraPaths": [str(ROOT)], "typeCheckingMode": "standard", "include": [*NAMES]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", f"--pythonpath={sys.executable}"],
        cwd=folder,
        # It would look on the network for a newer pyright than the one that pip installed.
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert len(NAMES) == report["summary"]["filesAnalyzed"]
    found: Lines = {name: {} for name in NAMES}
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            line = one["range"]["start"]["line"] + 1
            found[Path(one["file"]).name][line] = one["message"]
    return found


@pytest.fixture(scope="module", params=[by_mypy, by_pyright])
def refused(request: pytest.FixtureRequest, folder: Path) -> Iterator[Lines]:
    """What one type checker says of both files, in one run."""
    yield request.param(folder)


def test_right_uses_pass(refused: Lines) -> None:
    """Every public name, used as it is meant, is taken."""
    assert {} == refused["right.py"]


def test_each_wrong_use_is_refused(refused: Lines) -> None:
    """Each marked line is an error, and no other line is."""
    lines = (HERE / "wrong.py").read_text().splitlines()
    expected = {number: line for number, line in enumerate(lines, 1) if MARK.search(line)}
    assert len(expected) > 100
    found = refused["wrong.py"]
    missed = {number: line for number, line in expected.items() if number not in found}
    assert {} == missed
    assert {} == {number: why for number, why in found.items() if number not in expected}
