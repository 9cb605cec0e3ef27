"""Every fenced block of the README and of ``docs/`` runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .blocks import LANGUAGES, ROOT, Block, blocks_of, pages
from .console import Console
from .page import Page

_done: dict[str, tuple[int, int, int, int, list[str]]] = {}
_PAGES = [str(path.relative_to(ROOT)) for path in pages()]


@pytest.mark.parametrize("name", _PAGES)
def test_page(name: str, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page shows is what happens: its files, commands, output and exit codes."""
    blocks = blocks_of(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    console = Console(tmp_path, redis_url)
    for key in ("REDIS_HOST", "REDIS_PORT", "FLASK_SKIP_DOTENV"):
        monkeypatch.setenv(key, console.environ[key])
    page = Page(tmp_path, console)
    failed = True
    try:
        for block in blocks:
            if not block.is_directive:
                page.run(block)
        page.end()
        failed = False
    finally:
        page.forget_modules()
        console.close(failed=failed)
    directives = sum(block.is_directive for block in blocks)
    found = (page.run_blocks, page.allowed_blocks, directives, page.commands)
    _done[name] = (*found, page.allowed_commands)
    assert len(blocks) == page.run_blocks + page.allowed_blocks + directives


def test_every_block_has_a_known_language() -> None:
    """A block that nobody knows how to run would be left out."""
    unknown = [
        block.place
        for path in pages()
        for block in blocks_of(path)
        if block.language not in LANGUAGES and not block.is_directive
    ]
    assert [] == unknown


def test_no_block_is_left_out() -> None:
    """What was seen is what was run, what is checked in another way, and what Sphinx reads."""
    seen = {name: len(blocks_of(ROOT / name)) for name in _done}
    run, allowed, directives = (sum(one[i] for one in _done.values()) for i in range(3))
    commands = sum(one[3] for one in _done.values())
    elsewhere = [text for one in _done.values() for text in one[4]]
    print(
        f"\n{sum(seen.values())} blocks on {len(seen)} pages: {run} run, {allowed} checked in "
        f"another way, {directives} for Sphinx; {commands} commands, {len(elsewhere)} of them not "
        f"run:{''.join(f'{os.linesep}  $ {text}' for text in elsewhere)}"
    )
    assert sum(seen.values()) == run + allowed + directives


def test_a_wrong_page_is_noticed(tmp_path: Path, redis_url: str) -> None:
    """The harness itself: output that is not printed so, and a command that fails, are red."""
    wrong = "$ printf 'one\\ntwo\\nthree\\n'\none\nthree\n"
    for text in (wrong, "$ echo one\ntwo\n", "$ false\n", "$ false\n$ echo $?\n2\n"):
        page = Page(tmp_path, Console(tmp_path, redis_url))
        with pytest.raises(AssertionError):
            page.run(Block("docs/wrong.md", 1, "console", text))
    with pytest.raises(AssertionError):
        Page(tmp_path, Console(tmp_path, redis_url)).run(
            Block("docs/wrong.md", 1, "pycon", ">>> 1 + 1\n3\n")
        )
