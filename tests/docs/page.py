"""One page, read from top to bottom in a folder of its own."""

from __future__ import annotations

import contextvars
import doctest
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import elsewhere
from .blocks import Block, commands_of
from .console import Console, words
from .matching import Names


class Page:
    """Runs the blocks of one page.

    :param folder: Its folder; the current one, and first on ``sys.path``.
    :param console: Where its commands are typed.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.files: dict[str, str] = {}
        self.run_blocks = 0
        self.allowed_blocks = 0
        self.commands = 0
        self.allowed_commands: list[str] = []
        self._names: dict[str, Any] = {"__name__": "__page__"}
        self._context = contextvars.copy_context()  # a page may push an app context and keep it
        self._ways: dict[str, Callable[[Block], None]] = {
            "python": self._python,
            "pycon": self._pycon,
            "console": self._console,
            "text": self._text,
        }

    def run(self, block: Block) -> None:
        """Run one block, or check it in another way where it is on the list of those."""
        way = self._ways.get(block.language)
        if block.language == "console" and all(
            elsewhere.find(one.text) for one in commands_of(block)
        ):
            self.allowed_blocks += 1
        else:
            self.run_blocks += 1
        if way is not None:
            way(block)
        else:
            if block.file:
                self._write(block)
            elsewhere.check_data(block, self.folder)

    def end(self) -> None:
        """Check what is only known at the end of a page."""
        tests = [name for name in self.files if Path(name).name.startswith("test_")]
        typed = [words(one)[:1] for one in self.console.typed]
        assert not tests or ["pytest"] in typed, f"nothing on the page runs {', '.join(tests)}"

    def forget_modules(self) -> None:
        """Take the page's modules out of Python's memory."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(self.folder):
                del sys.modules[name]
        importlib.invalidate_caches()

    def _write(self, block: Block) -> str:
        assert block.file is not None
        name = block.file.lstrip("/")
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.files[name] = self.console.here(block.text)
        path.write_text(self.files[name])
        return name

    def _python(self, block: Block) -> None:
        text = self.console.here(block.text)
        code = compile("\n" * (block.line - 1) + text, block.place, "exec")
        if block.file is None:
            self._context.run(exec, code, self._names)
            return
        name = self._write(block)
        self.forget_modules()
        if not Path(name).name.startswith(("test_", "conftest")):
            module = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            self._context.run(importlib.import_module, module)

    def _pycon(self, block: Block) -> None:
        text = self.console.here(block.text)
        parser = doctest.DocTestParser()
        test = parser.get_doctest(text, self._names, block.place, block.page, block.line)
        said: list[str] = []
        runner = doctest.DocTestRunner(checker=_Checker(self.console.names), verbose=False)
        self._context.run(runner.run, test, out=said.append, clear_globs=False)
        assert not runner.failures, "".join(said)
        assert runner.tries, f"{block.place} has no example"
        self._names.update(test.globs)

    def _console(self, block: Block) -> None:
        commands = list(commands_of(block))
        for number, command in enumerate(commands):
            self.commands += 1
            check = elsewhere.find(command.text)
            if check is not None:
                self.allowed_commands.append(command.text)
                check(command, self.files)
                continue
            following = commands[number + 1].text if number + 1 < len(commands) else ""
            self.console.run(command, code_is_asked=following == "echo $?")

    def _text(self, block: Block) -> None:
        if block.file:
            self._write(block)
            return
        self.console.compare_somewhere(block.place, block.text.splitlines())


class _Checker(doctest.OutputChecker):
    """Compares as everywhere: ``…`` stands for anything."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Compare line by line; both must have the same number of them."""
        wanted, printed = want.splitlines(), got.splitlines()
        alike = "…" in wanted or len(wanted) == len(printed)
        return alike and self._names.missing(wanted, got) is None
