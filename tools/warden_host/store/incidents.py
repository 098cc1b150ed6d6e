"""Incidents in fleet.db, repeats of one kind in one row, and records of the devices' own logs."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from warden_host.store.database import Database

MAX_INCIDENTS = 200  # rows of each device, as MAX_EVENTS in events.py
MAX_RECORDS = 1000  # of each device's own log
_MOST = 1 << 53  # what JSON carries without loss


class Incident(NamedTuple):
    """Incidents of one kind from one device: n of them, between first and time."""

    time: float
    source: str
    code: str
    at: str
    n: int
    first: float
    app: str = ""  # the application that caused it, where that is known


class LogHead(NamedTuple):
    """How far a device's incident log is here: its last number, and the chain's hash there.

    digest: b"" where the log is taken as the device has it. missing: records that got lost.
    """

    number: int
    digest: bytes
    missing: int


class Record(NamedTuple):
    """A record of a device's log. time: the device's, received: ours, unix seconds."""

    number: int
    time: float
    received: float
    code: str
    at: str
    app: str
    n: int


class Incidents(Database):
    """The incidents' rows."""

    def add_incident(
        self, device: str, source: str, code: str, at: str, n: int, app: str = ""
    ) -> None:
        """Count an incident. source: "device" for its report, "host" for a refused message.

        app: the application that caused it, as far as the device knows.

        Repeats count in one row, so that a flood of one kind displaces no other.
        """
        with self.transaction(durable=False):
            self._do(
                "INSERT INTO incidents (first, time, device, source, code, at, n, app) VALUES "
                "(?1, ?1, ?2, ?3, ?4, ?5, ?6, ?8) ON CONFLICT (device, source, code, at, app) "
                "DO UPDATE SET time = excluded.time, n = min(n + excluded.n, ?7)",
                time.time(),
                device,
                source,
                code,
                at,
                n,
                _MOST,
                app,
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
            "SELECT time, source, code, at, n, first, app FROM incidents WHERE device = ? "
            "ORDER BY time, id",
            device,
        )
        return [Incident(*row) for row in rows]

    def newest_incidents(self, start: int, most: int) -> list[tuple[str, str, Incident]]:
        """Return (device, its type, incident) of all devices, the newest first.

        start: how many of the newest are left out.
        """
        rows = self._do(
            "SELECT i.device, coalesce(d.type, ''), i.time, source, code, at, n, first, app "
            "FROM incidents AS i LEFT JOIN devices AS d ON d.device = i.device "
            "ORDER BY i.time DESC, i.id DESC LIMIT ? OFFSET ?",
            most,
            start,
        )
        return [(device, type_, Incident(*row)) for device, type_, *row in rows]

    # The devices' own logs

    def log_head(self, device: str) -> LogHead | None:
        """Return how far a device's log is here, or None where nothing is known of one."""
        row = self._do(
            "SELECT number, digest, missing FROM incident_logs WHERE device = ?", device
        ).fetchone()
        return None if row is None else LogHead(*row)

    def record_digest(self, device: str, number: int) -> bytes:
        """Return the chain's hash at a record, b"" where the record is not kept."""
        row = self._do(
            "SELECT digest FROM incident_records WHERE device = ? AND number = ? "
            "ORDER BY id DESC LIMIT 1",
            device,
            number,
        ).fetchone()
        return b"" if row is None else bytes(row[0])

    def write_records(
        self,
        rows: Sequence[tuple[str, int, float, float, str, str, str, int, bytes]],
        heads: Sequence[tuple[str, int, bytes, int, bytes]],
    ) -> None:
        """Keep records, and how far the logs are here then.

        rows: (device, number, time, received, code, at, app, n, digest). heads: (device, number,
        digest, missing, uid of the authority's pair): a device may have been provisioned anew
        meanwhile. Raises: database-damaged.
        """
        # What is acknowledged to a device must survive a power cut: it keeps no copy.
        with self.transaction():
            for row in rows:
                self._do(
                    "INSERT INTO incident_records (device, number, time, received, code, at, app, "
                    "n, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    *row,
                )
            for device, number, digest, missing, uid in heads:
                self._do(
                    "INSERT INTO incident_logs SELECT device, ?2, ?3, ?4 FROM pairs "
                    "WHERE device = ?1 AND uid = ?5 "
                    "ON CONFLICT (device) DO UPDATE SET number = ?2, digest = ?3, missing = ?4",
                    device,
                    number,
                    digest,
                    missing,
                    uid,
                )
                self._do(
                    "DELETE FROM incident_records WHERE device = ?1 AND id <= (SELECT id FROM "
                    "incident_records WHERE device = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                    device,
                    MAX_RECORDS,
                )

    def incident_records(self, device: str, most: int = MAX_RECORDS) -> list[Record]:
        """Return the newest records of a device's log, the latest at the end."""
        rows = self._do(
            "SELECT number, time, received, code, at, app, n FROM incident_records "
            "WHERE device = ? ORDER BY id DESC LIMIT ?",
            device,
            most,
        ).fetchall()
        return [Record(*row) for row in reversed(rows)]

    def take_log_anew(self, device: str) -> None:
        """Take a device's log as the device has it: its owner vouches for it."""
        self._do("UPDATE incident_logs SET number = 0, digest = x'' WHERE device = ?", device)
