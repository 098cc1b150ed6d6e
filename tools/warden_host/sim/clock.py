"""The clock of a simulated board: libfaketime shows the board a time that a file holds.

The file lies with the board's fuses; the board sets its clock by writing it, as `board.CLOCK`
says. Times that pass (ticks) are not changed.
"""

import calendar
import contextlib
import os
import time
from pathlib import Path

MAX_SHIFT_S = 20 * 366 * 86400
_MAX_FILE = 64
_PATTERNS = ("usr/lib/*/faketime/libfaketime.so.1", "usr/lib/faketime/libfaketime.so.1")


def libfaketime() -> Path | None:
    """Return the library, or None where it is not installed."""
    for pattern in _PATTERNS:
        for found in sorted(Path("/").glob(pattern)):
            return found
    return None


class Clock:
    """One board's clock. path: its file. Without the library it is the host's and stays so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._library = libfaketime()
        if self._library is not None:
            self.shift(0)

    @property
    def can_be_set(self) -> bool:
        return self._library is not None

    def environment(self) -> dict[str, str] | None:
        """Return what the board's process needs, or None for nothing."""
        if self._library is None:
            return None
        return os.environ | {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "UTC",
        }

    def shift(self, seconds: int) -> None:
        """Set the clock to the host's and so many seconds."""
        if self._library is not None:
            new = self._path.with_name(self._path.name + "~")
            new.write_text(f"{seconds:+d}\n")
            os.replace(new, self._path)

    def go_on(self) -> None:
        """Let a time that the board has set go on. Called before each start of the board.

        libfaketime would begin at that time again with each process.
        """
        self.shift(round(self.now() - time.time()))

    def now(self) -> float:
        """Return the board's time, unix seconds."""
        with contextlib.suppress(OSError, ValueError):
            changed = self._path.stat().st_mtime
            with self._path.open() as file:
                text = file.read(_MAX_FILE).strip()
            if text.startswith("@"):  # the board has set it
                moment = calendar.timegm(time.strptime(text, "@%Y-%m-%d %H:%M:%S"))
                return moment + time.time() - changed
            return time.time() + max(-MAX_SHIFT_S, min(MAX_SHIFT_S, int(text)))
        return time.time()

    def close(self) -> None:
        """Let the clock be the host's again."""
        if self._library is not None:
            self._path.unlink(missing_ok=True)
