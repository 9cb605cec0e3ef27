"""``flask consume --reload``: whoever changes the code sees the change at work."""

from __future__ import annotations

import signal

from ..conftest import eventually
from .shop import APP, Shop


def test_reload_starts_anew_when_code_changes(shop: Shop) -> None:
    """A changed file ends the child at its next pause; broken code waits for its cure."""
    log = shop.folder / "output.txt"
    with shop.running("consume", "--reload", log=log) as parent:
        shop.push(1)
        eventually(lambda: "placed 1" in log.read_text(errors="replace"), "the first child handles")
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


def test_a_child_ends_with_its_parent(shop: Shop) -> None:
    """However the parent ends: a second consumer that nobody knows of would take messages."""
    log = shop.folder / "output.txt"
    with shop.running("consume", "--reload", log=log) as parent:
        shop.push(1)
        eventually(lambda: "placed 1" in log.read_text(errors="replace"), "the child handles")
        parent.kill()
        eventually(lambda: "stopped ·" in log.read_text(errors="replace"), "the child has stopped")
