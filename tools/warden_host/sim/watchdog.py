"""Simulate the watchdog: end the device's process when it was not fed in time.

boards/UNIX/watchdog.py is the device's end: it writes the time-out in milliseconds, and another
digit at each feed, to the file `watchdog` in the device's fuses. The change counts and not the
file's date, because the host's clock may jump.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from warden_host.numerals import decimal

FILE = "watchdog"
BITTEN = "bitten"  # exists when the watchdog ended the last start: the chip's reset cause
_LOOK_S = 0.25
_MAX_FILE = 32
_MAX_TIMEOUT_MS = 10**9


class Watchdog:
    """Decide when the watchdog bites.

    path: the device's file.
    steady: a monotonic clock in seconds.
    """

    def __init__(self, path: Path, steady: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._steady = steady
        self._seen = b""
        self._since = steady()
        path.unlink(missing_ok=True)  # of the start before

    def bites(self) -> bool:
        """Return whether the device started its watchdog and fed it too long ago."""
        found = self._read()
        now = self._steady()
        if found != self._seen:
            self._seen, self._since = found, now
        timeout_ms = decimal(found.split(b" ", 1)[0], _MAX_TIMEOUT_MS)
        return timeout_ms is not None and now - self._since > timeout_ms / 1000

    def guard(self, ended: threading.Event, bite: Callable[[], None]) -> None:
        """Call bite() once when the watchdog bites; return then, or when the device ended."""
        while not ended.wait(_LOOK_S):
            if self.bites():
                bite()
                return

    def _read(self) -> bytes:
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            return file.read(_MAX_FILE)
        return b""
