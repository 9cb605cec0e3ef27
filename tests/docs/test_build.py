"""The documentation is built, and what it says about names is true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .blocks import ROOT


def test_sphinx_has_nothing_to_say(tmp_path: Path) -> None:
    """Not one warning: no broken reference, no page outside of the contents."""
    arguments = ["-W", "--keep-going", "-n", "-q", "-b", "html", "docs", str(tmp_path / "html")]
    command = [sys.executable, "-m", "sphinx", "-d", str(tmp_path / "doctrees"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (0, "") == (done.returncode, done.stderr)
    assert (tmp_path / "html" / "index.html").is_file()
