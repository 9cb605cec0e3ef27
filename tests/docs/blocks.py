"""The fenced blocks of the documentation, as they are read by a person: page by page, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = frozenset({"python", "pycon", "console", "text", "json", "ini", "yaml", "toml"})
_FILE = re.compile(r"(?:#|;) (?P<name>[\w./@-]+\.(?:py|toml|cfg|ini|conf|service|yaml))\b")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    :param page: Its file, from the root of the project.
    :param line: Where its text begins.
    :param language: What stands behind the fence; ``{name}`` for a directive of Sphinx.
    :param text: What is between the fences.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """:return: For messages."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """:return: The file that the block's first line names."""
        found = _FILE.match(self.text)
        return found["name"] if found else None

    @property
    def is_directive(self) -> bool:
        """:return: Whether Sphinx reads it, and not a person."""
        return self.language.startswith("{")


@dataclass(frozen=True)
class Command:
    """A line that begins with ``$``, and the output that is shown below it."""

    block: Block
    text: str
    shown: list[str]


def pages() -> list[Path]:
    """:return: All that is checked."""
    built = {"_build"}
    found = [
        one
        for one in sorted((ROOT / "docs").rglob("*.md"))
        if not built & set(one.relative_to(ROOT).parts)
    ]
    return [ROOT / "README.md", *found]


def blocks_of(path: Path) -> list[Block]:
    """:return: Every block of a page; indented ones as well, which have no language."""
    page = str(path.relative_to(ROOT))
    found = []
    for token in MarkdownIt("commonmark").parse(path.read_text()):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = token.info.strip().partition(" ")[0]
            found.append(Block(page, token.map[0] + 2, language, token.content))
    return found


def commands_of(block: Block) -> Iterator[Command]:
    """:return: The commands of a console block, each with what is shown of its output."""
    command: Command | None = None
    lines = iter(block.text.replace("\\\n", "").splitlines())
    for line in lines:
        if line.startswith("$ "):
            if command is not None:
                yield command
            command = Command(block, line[2:], [])
        else:
            assert command is not None, f"{block.place} begins with output"
            command.shown.append(line)
    assert command is not None, f"{block.place} has no command"
    yield command
