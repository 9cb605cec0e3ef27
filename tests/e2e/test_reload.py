"""``flask consume --reload``: whoever changes the code sees the change at work."""

from __future__ import annotations

import signal
from pathlib import Path

from ..conftest import eventually
from .shop import APP, Shop


def test_reload_starts_anew_when_code_changes(shop: Shop) -> None:
    """A changed file ends the child at its next pause; broken code waits for its cure."""
    log = shop.folder / "output.txt"
    with shop.running("consume", "--reload", log=log) as parent:
        shop.push(1)
        eventually(lambda: "placed 1" in log.read_text(errors="replace"), "the first child handles")
        eventually(lambda: watches(parent.pid), "the parent watches")
        shop.write("import nowhere\n")
        eventually(
            lambda: "waiting for a change" in log.read_text(errors="replace"), "it is broken"
        )
        shop.write(APP.replace("placed", "accepted"))
        shop.push(2)
        eventually(
            lambda: "accepted 2" in log.read_text(errors="replace"), "the third child handles"
        )
        parent.send_signal(signal.SIGTERM)
        assert 0 == parent.wait(60), log.read_text()
    output = log.read_text()
    assert output.count("shop.py changed; starting anew") >= 2
    assert "No module named 'nowhere'" in output
    assert 2 == output.count("stopped ·"), output


def watches(pid: int) -> bool:
    """:return: Whether a process watches a folder; what changes before is not its business."""
    # The parent starts its child before it begins to watch, and says neither.
    infos = Path(f"/proc/{pid}/fdinfo")
    return not infos.is_dir() or any("inotify wd:" in _text(one) for one in infos.iterdir())


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # closed while we looked
        return ""
