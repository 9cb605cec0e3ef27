"""Whether output is what a page shows.

``…`` stands for anything; ids, clocks, dates, durations and ports differ from run to run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}"
_MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)"
_VARIABLE = re.compile(
    rf"(?P<moment>{_MOMENT})|(?P<id>\b(?:{_ID})\b)|(?P<any>…)|(?P<clock>\b\d\d:\d\d:\d\d\b)"
    r"|(?P<date>\b\d{4}-\d\d-\d\d\b)|(?P<took>\b(?:\d+ms|\d+\.\d+s)(?!\w))"
    r"|(?P<port>(?<=127\.0\.0\.1:)\d{4,5}\b)"
)
_PATTERNS = {
    "id": rf"({_ID})",
    "moment": _MOMENT,
    "any": r".*",
    "clock": r"\d\d:\d\d:\d\d",
    "date": r"\d{4}-\d\d-\d\d",
    "took": r"(?:\d+(?:\.\d+)?m?s)",
    "port": r"\d+",
}


class Names:
    """Which id of this run stands for which id of a page."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def real(self, text: str) -> str:
        """:return: The text with this run's ids in the place of the page's."""
        return re.sub(rf"\b(?:{_ID})\b", lambda found: self._known.get(found[0], found[0]), text)

    def missing(self, shown: Sequence[str], output: str) -> str | None:
        """Look for the lines of a page in an output: in their order, with none between them.

        A line that is only ``…`` stands for any lines; empty lines do not count.

        :param shown: Lines of the page.
        :param output: What was printed.
        :return: The lines that do not stand there like that.
        """
        lines = [line for line in output.splitlines() if line.strip()]
        start = 0
        for part in _parts(shown):
            for begin in range(start, len(lines) - len(part) + 1):
                found = self._match(part, lines[begin:])
                if found is not None:
                    self._known, start = found, begin + len(part)
                    break
            else:
                return "\n".join(part)
        return None

    def _match(self, part: Sequence[str], lines: Sequence[str]) -> dict[str, str] | None:
        known = dict(self._known)
        for shown, line in zip(part, lines, strict=False):
            pattern, ids = _pattern(shown.rstrip(), known)
            match = re.fullmatch(pattern, line.rstrip())
            if match is None:
                return None
            for one, real in zip(ids, match.groups(), strict=True):
                known |= {one: real, one[-8:]: real[-8:]}  # commands show and take the end alone
        return known


def _parts(shown: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for line in shown:
        if line.strip() == "…":
            parts.append([])
        elif line.strip():
            parts[-1].append(line)
    return [part for part in parts if part]


def _pattern(shown: str, known: Mapping[str, str]) -> tuple[str, list[str]]:
    ids: list[str] = []
    pattern, start = "", 0
    for found in _VARIABLE.finditer(shown):
        pattern += re.escape(shown[start : found.start()])
        kind = found.lastgroup or "any"
        if kind == "id":
            ids.append(found[0])
        real = known.get(found[0])
        pattern += f"({re.escape(real)})" if real else _PATTERNS[kind]
        start = found.end()
    return pattern + re.escape(shown[start:]), ids
