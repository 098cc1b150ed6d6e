"""The lines of a board's console, and which of them tell of a refusal."""

import re
from collections import deque
from typing import NamedTuple

from warden_host.fleet import errors_page

MOST = 400  # lines that are kept
# As print_errors of the device writes them, an application that prints its log, or the page.
_CODE = re.compile(r"(?:warden: |log |(incident ))?([a-z][a-z0-9-]{1,39})(?: |$)")
# By the classes of docs/errors.md.
_MARKS = {"PeerError": "refused", "LinkError": "network", "StoreError": "board"}


class Line(NamedTuple):
    """number: counts from the first line on. mark: refused, network, board, note, or none.

    means: what the line's code means, where no line before it says so.
    """

    number: int
    text: str
    mark: str
    means: str = ""


class Log:
    """The newest lines."""

    def __init__(self) -> None:
        self._marks = {
            one.code: _MARKS.get(one.class_name.partition(" ")[0], "board")
            for one in errors_page.entries().values()
        }
        known = errors_page.entries().values()
        self._progress = errors_page.progress()
        self._means = {one.code: one.means.replace("`", "") for one in known} | self._progress
        self._explained: dict[str, int] = {}  # code → the line that says what it means
        self.lines: deque[Line] = deque(maxlen=MOST)
        self.count = 0

    def add(self, text: str, mark: str | None = None) -> None:
        """Keep a line of the board, or one of ours that begins with "--".

        mark: None to find it by the line's code.
        """
        self.count += 1
        code = "" if mark is not None else self._code(text)
        shown = self._mark(text) if mark is None else mark
        self.lines.append(Line(self.count, text, shown, self._meaning(code)))

    def after(self, number: int) -> list[Line]:
        """Return the lines behind one that was shown."""
        return [line for line in self.lines if line.number > number]

    def _meaning(self, code: str) -> str:
        """Return what a code means, once for all lines that are kept."""
        before = self._explained.get(code)
        if code not in self._means or (before is not None and before > self.count - MOST):
            return ""
        self._explained[code] = self.count
        return self._means[code]

    def _code(self, text: str) -> str:
        found = _CODE.match(text)
        return found[2] if found else ""

    def _mark(self, text: str) -> str:
        if text.startswith("--"):
            return "note"
        found = _CODE.match(text)
        if not found or (found[2] in self._progress and not found[1]):
            return ""
        return self._marks.get(found[2], "refused" if found[1] else "")
