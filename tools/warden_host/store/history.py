"""What fleet.db keeps of the past, as one history: the newest entries of several tables."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from warden_host.store.database import Database

# Kind of an entry → (time, app, name, code, text, count, first time), of which table, its order.
# event: a device's. incident: a device's report. refused: what we refused of it. record: one of
# the log of incidents that the device itself keeps, by its clock. rollout: a step of a rollout.
# order: to revoke or wipe it. certificate: issued or revoked.
_TABLES = {
    "event": ("time, device, appid, name, '', body, 1, time", "events", "id"),
    "incident": (
        "time, device, app, at, code, '', n, first",
        "(SELECT * FROM incidents WHERE source = 'device')",
        "time",
    ),
    "record": ("time, device, app, at, code, number, n, time", "incident_records", "id"),
    "refused": (
        "time, device, '', at, code, '', n, first",
        "(SELECT * FROM incidents WHERE source <> 'device')",
        "time",
    ),
    "rollout": (
        "time, device, '', state, reason, release, 1, time",
        "(SELECT h.*, r.release FROM rollout_history AS h JOIN rollouts AS r ON r.id = h.rollout)",
        "id",
    ),
    "order": (
        "time, device, '', name, '', '', 1, time",
        """(
            SELECT ordered AS time, device,
                iif(revoked, iif(wipe, 'revoke and wipe', 'revoke'), 'wipe') AS name FROM endings
            UNION ALL SELECT sent, device, 'wipe sent' FROM endings WHERE sent IS NOT NULL
            UNION ALL SELECT wiped, device, 'wiped' FROM endings WHERE wiped IS NOT NULL)""",
        "time",
    ),
    "certificate": (
        "time, device, '', name, '', serial, 1, time",
        """(
            SELECT issued AS time, device, 'issued' AS name, serial FROM certificates
            UNION ALL SELECT revoked, device, 'revoked', serial FROM certificates
                WHERE revoked IS NOT NULL)""",
        "time",
    ),
}
KINDS = tuple(_TABLES)
# Incidents count what the records hold one by one.
USUAL = tuple(kind for kind in KINDS if kind != "record")


class Entry(NamedTuple):
    """One entry. time, first: unix seconds; they differ where n of one kind were counted.

    name: of the event, the command, the state or the order. app: also of an incident: the
    application that caused it. text: an event's body as JSON, a record's number, a release's name,
    a certificate's serial.
    """

    kind: str
    time: float
    device: str
    app: str
    name: str
    code: str
    text: str
    n: int
    first: float


class History(Database):
    """Reads alone."""

    def entries(
        self, device: str = "", since: float = 0.0, kinds: Iterable[str] = USUAL, most: int = 100
    ) -> list[Entry]:
        """Return the newest entries, oldest first.

        device: "" for all. since: unix seconds. kinds: of KINDS. most: how many at most.
        """
        found = [self._newest(kind, device, since, most) for kind in kinds]
        merged = heapq.merge(*found, key=lambda entry: entry.time, reverse=True)
        newest = [entry for entry, _ in zip(merged, range(most), strict=False)]
        return newest[::-1]

    def _newest(self, kind: str, device: str, since: float, most: int) -> list[Entry]:
        columns, table, order = _TABLES[kind]
        rows = self._do(
            f"SELECT {columns} FROM {table} WHERE time >= ?1 AND (?2 = '' OR device = ?2) "  # noqa: S608
            f"ORDER BY {order} DESC LIMIT ?3",
            since,
            device,
            most,
        )
        found = [Entry(kind, *row) for row in rows]
        # By time, which a clock that was set back does not follow by number.
        return sorted(found, key=lambda entry: entry.time, reverse=True)

    def event_counts(self, device: str, since: float) -> dict[str, int]:
        """Return name → how many events of the device are kept since a time, unix seconds."""
        rows = self._do(
            "SELECT name, count(*) FROM events WHERE device = ? AND time >= ? GROUP BY name "
            "ORDER BY name",
            device,
            since,
        )
        return dict(rows.fetchall())
