"""A table for people, printed without rich, which is a third of the start of a frequent command.

It looks as screen.table() does: a bold title, dim heads, a line, and no frame.
"""

import textwrap
from collections.abc import Sequence

from warden_host import jsontext
from warden_host.cli import screen

_EDGES = 2  # a blank at each side
_GAP = "   "
_LEAST = 5  # columns that a cell keeps, however narrow the screen is


class Table:
    """Rows of cells. A cell is a text, or a text and its style, such as "bold red".

    Characters are counted, not their columns on the screen: IDs and words of ours have one each.

    folds: columns that wrap where the screen is narrow; the others are cut, with an ellipsis.
    """

    def __init__(self, title: str, *columns: str, folds: Sequence[str] = ()) -> None:
        self._title = title
        self._columns = columns
        self._folds = [column in folds for column in columns]
        self._rows: list[list[tuple[str, str]]] = []

    def add_row(self, *cells: str | tuple[str, str]) -> None:
        """Add a row, a cell for each column."""
        pairs = [(cell, "") if isinstance(cell, str) else cell for cell in cells]
        self._rows.append([(jsontext.printable(text), style) for text, style in pairs])

    def lines(self, width: int) -> list[str]:
        """Return the table as lines of at most so many columns, with their colours."""
        widths = self._widths(width)
        lines = [screen.styled(self._title, "bold"), ""]
        lines += self._row([(name, "dim") for name in self._columns], widths)
        lines.append(" " + "─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
        for row in self._rows:
            lines += self._row(row, widths)
        return [*lines, ""]

    def print(self) -> None:
        """Print the table on standard output, as wide as the screen is."""
        screen.lines(self.lines(screen.columns()))

    def _widths(self, width: int) -> list[int]:
        """Return the widths: columns that wrap give way first, down to their longest word."""
        texts = [self._columns, *([text for text, _ in row] for row in self._rows)]
        columns = list(zip(*texts, strict=True))
        widths = [max(map(len, column)) for column in columns]
        least = [
            max(len(word) for text in column for word in ["", *text.split()]) if folds else _LEAST
            for column, folds in zip(columns, self._folds, strict=True)
        ]
        room = width - _EDGES - len(_GAP) * (len(widths) - 1)
        for folding in (True, False):
            able = [at for at, folds in enumerate(self._folds) if folds or not folding]
            while able and sum(widths) > room:
                widest = max(able, key=lambda at: widths[at])
                if widths[widest] <= least[widest]:
                    able.remove(widest)
                else:
                    widths[widest] -= 1
        return widths

    def _row(self, cells: Sequence[tuple[str, str]], widths: Sequence[int]) -> list[str]:
        """Return the lines of a row: more than one where a cell wraps."""
        parts = []
        for (text, _), width, folds in zip(cells, widths, self._folds, strict=True):
            if len(text) <= width:
                parts.append([text])
            elif folds:
                parts.append(textwrap.wrap(text, width, break_on_hyphens=False) or [""])
            else:
                parts.append([text[: width - 1] + "…"])
        lines = []
        for at in range(max(map(len, parts))):
            found = [part[at] if at < len(part) else "" for part in parts]
            shown = [
                screen.styled(text, style) + " " * (width - len(text))
                for text, (_, style), width in zip(found, cells, widths, strict=True)
            ]
            lines.append((" " + _GAP.join(shown)).rstrip())
        return lines
