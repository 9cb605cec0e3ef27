"""Whether output is what a page shows: ``…`` stands for anything, ids and clocks for themselves."""

from __future__ import annotations

import re

_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}"
_VARIABLE = re.compile(
    rf"(?P<id>\b(?:{_ID})\b)|(?P<any>…)|(?P<clock>\b\d\d:\d\d:\d\d\b)|(?P<date>\b\d{{4}}-\d\d-\d\d\b)"
    r"|(?P<took>\b(?:\d+ms|\d+\.\d+s)(?!\w))|(?P<number>\b\d{1,3}(?:,\d{3})+\b)"
)
_PATTERNS = {
    "id": rf"({_ID})",
    "any": r".*",
    "clock": r"\d\d:\d\d:\d\d",
    "date": r"\d{4}-\d\d-\d\d",
    "took": r"(?:\d+(?:\.\d+)?m?s)",
    "number": r"[\d,]+",
}


class Names:
    """Which id of this run stands for which id of a page."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def real(self, text: str) -> str:
        """:return: The text with this run's ids in the place of the page's."""
        return re.sub(rf"\b(?:{_ID})\b", lambda found: self._known.get(found[0], found[0]), text)

    def missing(self, shown: list[str], output: str) -> str | None:
        """Look for the lines of a page in an output, in their order.

        :param shown: Lines of the page; ``…`` matches anything.
        :param output: What was printed.
        :return: The first line that is not there.
        """
        lines = iter(output.splitlines())
        for line in shown:
            if line.strip() in ("", "…"):
                continue
            if not any(self._matches(line, one) for one in lines):
                return line
        return None

    def _matches(self, shown: str, line: str) -> bool:
        ids: list[str] = []
        pattern, start = "", 0
        for found in _VARIABLE.finditer(shown):
            pattern += re.escape(shown[start : found.start()])
            kind = found.lastgroup or "any"
            if kind == "id":
                ids.append(found[0])
            known = self._known.get(found[0])
            pattern += f"({re.escape(known)})" if known else _PATTERNS[kind]
            start = found.end()
        match = re.fullmatch(pattern + re.escape(shown[start:].rstrip()), line.rstrip())
        if match is None:
            return False
        self._known.update(zip(ids, match.groups(), strict=True))
        return True
