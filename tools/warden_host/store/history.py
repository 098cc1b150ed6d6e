"""What fleet.db keeps of the past, as one history: the newest entries of several tables."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from warden_host.store.database import Database

# Kind of an entry → (time, app, name, code, text, count, first time), of which table, the column
# that orders it, and those that order what is the same there.
# event: a device's. incident: a device's report. refused: what we refused of it. record: one of
# the log of incidents that the device itself keeps, by its clock. rollout: a step of a rollout.
# order: to revoke or wipe it. certificate: issued or revoked.
_TABLES = {
    "event": ("time, device, appid, name, '', body, 1, time", "events", "id", ()),
    "incident": (
        "time, device, app, at, code, '', n, first",
        "(SELECT * FROM incidents WHERE source = 'device')",
        "time",
        ("id",),
    ),
    "record": ("time, device, app, at, code, number, n, time", "incident_records", "id", ()),
    "refused": (
        "time, device, '', at, code, '', n, first",
        "(SELECT * FROM incidents WHERE source <> 'device')",
        "time",
        ("id",),
    ),
    "rollout": (
        "time, device, '', state, reason, release, 1, time",
        "(SELECT h.*, r.release FROM rollout_history AS h JOIN rollouts AS r ON r.id = h.rollout)",
        "id",
        (),
    ),
    "order": (
        "time, device, '', name, '', '', 1, time",
        """(
            SELECT ordered AS time, device,
                iif(revoked, iif(wipe, 'revoke and wipe', 'revoke'), 'wipe') AS name FROM endings
            UNION ALL SELECT sent, device, 'wipe sent' FROM endings WHERE sent IS NOT NULL
            UNION ALL SELECT wiped, device, 'wiped' FROM endings WHERE wiped IS NOT NULL)""",
        "time",
        ("device", "name"),
    ),
    "certificate": (
        "time, device, '', name, '', serial, 1, time",
        """(
            SELECT issued AS time, device, 'issued' AS name, serial FROM certificates
            UNION ALL SELECT revoked, device, 'revoked', serial FROM certificates
                WHERE revoked IS NOT NULL)""",
        "time",
        ("serial", "name"),
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


class Place(NamedTuple):
    """An entry's place among those of its kind.

    key: of the column that orders them. skip: how many with the same key come before it.
    """

    key: float
    skip: int


_NEWEST = Place(1 << 62, 0)


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
        columns, table, order, _ = _TABLES[kind]
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

    def entries_from(
        self, kind: str, device: str, place: Place | None, most: int
    ) -> list[tuple[float, Entry]]:
        """Return (key, entry) of one kind from a place on, the newest first.

        device: "" for all. place: None for the newest. most: how many at most.
        """
        columns, table, key, ties = _TABLES[kind]
        order = ", ".join(f"{one} DESC" for one in (key, *ties))
        key_from, skip = place or _NEWEST
        rows = self._do(
            f"SELECT {key}, {columns} FROM {table} WHERE {key} <= ? "  # noqa: S608
            f"{'AND device = ? ' if device else ''}ORDER BY {order} LIMIT ? OFFSET ?",
            *(key_from, device, most, skip) if device else (key_from, most, skip),
        )
        return [(found, Entry(kind, *row)) for found, *row in rows]

    def event_counts(self, device: str, since: float) -> dict[str, int]:
        """Return name → how many events of the device are kept since a time, unix seconds."""
        rows = self._do(
            "SELECT name, count(*) FROM events WHERE device = ? AND time >= ? GROUP BY name "
            "ORDER BY name",
            device,
            since,
        )
        return dict(rows.fetchall())
