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
        self._steps = {
            code: means.replace("`", "") for code, means in errors_page.progress().items()
        }
        self._errors = {
            one.code: (
                _MARKS.get(one.class_name.partition(" ")[0], "board"),
                one.means.replace("`", ""),
            )
            for one in errors_page.entries().values()
        }
        self._explained: dict[str, int] = {}  # meaning → the line that has it
        self.lines: deque[Line] = deque(maxlen=MOST)
        self.count = 0

    def add(self, text: str, mark: str | None = None) -> None:
        """Keep a line of the board, or one of ours that begins with "--".

        mark: None to find it by the line's code, with what the code means.
        """
        self.count += 1
        means = ""
        if mark is None:
            mark, means = self._find(text)
        self.lines.append(Line(self.count, text, mark, self._once(means)))

    def after(self, number: int) -> list[Line]:
        """Return the lines behind one that was shown."""
        return [line for line in self.lines if line.number > number]

    def _find(self, text: str) -> tuple[str, str]:
        """Return a line's mark, and what its code means.

        A code that is an error and a step of the device is the error in an incident alone.
        """
        if text.startswith("--"):
            return "note", ""
        found = _CODE.match(text)
        if found is None:
            return "", ""
        incident, code = found.groups()
        step = "" if incident else self._steps.get(code, "")
        if step:
            return "", step
        return self._errors.get(code, ("refused" if incident else "", ""))

    def _once(self, means: str) -> str:
        """Return a meaning; "" where a line that is kept has it already."""
        before = self._explained.get(means)
        if not means or (before is not None and before > self.count - MOST):
            return ""
        self._explained[means] = self.count
        return means
