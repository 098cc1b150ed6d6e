"""Incidents in fleet.db: repeats of one kind count in one row."""

import time
from typing import NamedTuple

from warden_host.store.database import Database

MAX_INCIDENTS = 200  # rows of each device, as MAX_EVENTS in events.py
_MOST = 1 << 53  # what JSON carries without loss


class Incident(NamedTuple):
    """Incidents of one kind from one device: n of them, between first and time."""

    time: float
    source: str
    code: str
    at: str
    n: int
    first: float


class Incidents(Database):
    """The incidents' rows."""

    def add_incident(self, device: str, source: str, code: str, at: str, n: int) -> None:
        """Count an incident. source: "device" for its report, "host" for a refused message.

        Repeats count in one row, so that a flood of one kind displaces no other.
        """
        with self.transaction(durable=False):
            self._do(
                "INSERT INTO incidents (first, time, device, source, code, at, n) "
                "VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (device, source, code, at) "
                "DO UPDATE SET time = excluded.time, n = min(n + excluded.n, ?7)",
                time.time(),
                device,
                source,
                code,
                at,
                n,
                _MOST,
            )
            self._do(
                "DELETE FROM incidents WHERE id IN (SELECT id FROM incidents WHERE device = ?1 "
                "ORDER BY time DESC, id DESC LIMIT -1 OFFSET ?2)",
                device,
                MAX_INCIDENTS,
            )

    def incidents(self, device: str) -> list[Incident]:
        """Return the device's incidents, the latest at the end."""
        rows = self._do(
            "SELECT time, source, code, at, n, first FROM incidents WHERE device = ? "
            "ORDER BY time, id",
            device,
        )
        return [Incident(*row) for row in rows]
