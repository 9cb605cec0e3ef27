"""The tests with each supported redis-py: python -m tests.redis_versions [--diagonal] [VERSION …].

Each version has a virtual environment beside `.venv`, made once and updated where it lacks
something.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from .servers import server_binaries

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("5.0", "5.3", "6.4", "7", "8")
SERVERS = ("redis 6.2", "redis on PATH", "redis 8", "valkey 9")
QUICK = "not slow"
FEW_KILLS = {"KILLS": "3"}


def environment(version: str) -> Path:
    """Make or update the environment of a version.

    :return: Its Python.
    """
    folder = ROOT / f".venv-redis-{version}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        (folder / ".gitignore").write_text("*\n")
    wanted = [
        "-e",
        ".[testing,embedded]",
        "pytest>=9",
        "hypothesis",
        "cloudevents>=2",
        f"redis=={version}.*",
    ]
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    subprocess.run([*pip, *wanted], cwd=ROOT, check=True)
    return python


def installed(python: Path) -> str:
    """:return: Which redis-py an environment has."""
    command = [str(python), "-c", "import redis; print(redis.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run(python: Path, server: str | None, folders: list[str]) -> bool:
    """Run the tests.

    :param python: Of which environment.
    :param server: The program; ``None``: the default of the tests.
    :param folders: Which tests.
    :return: Whether all passed.
    """
    environ = {**os.environ, **FEW_KILLS}
    if server is not None:
        environ["REDIS_SERVER_BINARY"] = server
    # Some versions leave sockets open at the interpreter's end, which is theirs to mend.
    lenient = [
        "-W",
        "ignore::ResourceWarning",
        "-W",
        "ignore::pytest.PytestUnraisableExceptionWarning",
    ]
    quick = ["-q", "-m", QUICK, "-p", "no:cacheprovider"]
    command = [str(python), "-m", "pytest", *quick, *lenient, *folders]
    return subprocess.run(command, cwd=ROOT, env=environ).returncode == 0


def pairs(versions: list[str], *, diagonal: bool) -> list[tuple[str, str, str]]:
    """:return: Versions, each with a server's name and program: all, or one for each version."""
    found = server_binaries()
    names = [name for name in SERVERS if name in found]
    if diagonal:
        chosen = [(one, names[n % len(names)]) for n, one in enumerate(versions)]
    else:
        chosen = [(one, name) for one in versions for name in names]
    return [(one, name, found[name]) for one, name in chosen]


def main() -> int:
    """Run them and print a line for each.

    :return: 1 if any is red, or if CI lacks a server.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--diagonal", action="store_true", help="each version with one server")
    options = parser.parse_args()
    # The servers are asked to die and are slow to: these tests run once a version, not a server.
    folders = ["tests/unit", "tests/integration"]
    lines, red = [], bool(os.environ.get("CI")) and len(server_binaries()) < len(SERVERS)
    seen: set[str] = set()
    for version, name, server in pairs(list(options.versions), diagonal=options.diagonal):
        started = time.monotonic()
        python = environment(version)
        exact = installed(python)
        print(f"\n=== redis-py {exact} on {name}", flush=True)
        more = [] if version in seen else ["tests/faults/test_processes.py"]
        seen.add(version)
        green = run(python, server, [*folders, *more])
        red = red or not green
        took = time.monotonic() - started
        lines.append(f"{'green' if green else 'RED  '}  redis-py {exact:8} {name:14} {took:4.0f}s")
    print("\n" + "\n".join(lines))
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
