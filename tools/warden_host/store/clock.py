"""The mark in fleet.db that this host's clock is compared with (service/clock_guard.py)."""

import json
from typing import NamedTuple

from warden_host.store.database import Database, guard


class Mark(NamedTuple):
    """A moment. unix: wall clock, seconds. steady: seconds since the start named by boot."""

    unix: float
    steady: float
    boot: str


class Clocks(Database):
    """The clock mark's rows."""

    def clock_mark(self) -> Mark | None:
        """Return the mark; in a database without one, the time when a device was last seen."""
        row = self._do("SELECT value FROM settings WHERE name = 'clock'").fetchone()
        if row is None:
            seen = self._do("SELECT max(last_seen) FROM devices").fetchone()[0]
            return Mark(seen, 0.0, "") if seen else None
        with guard():
            unix, steady, boot = json.loads(row[0])
            return Mark(float(unix), float(steady), str(boot))

    def set_clock_mark(self, mark: Mark) -> None:
        """Replace the mark."""
        value = json.dumps(mark).encode()
        self._do("INSERT OR REPLACE INTO settings VALUES ('clock', ?)", value)
