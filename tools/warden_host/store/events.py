"""Events of devices in fleet.db, committed in batches: a commit costs as much as ten inserts."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from warden_host.errors import HostError
from warden_host.store.database import Database, guard

# Rows of each device: one that floods displaces its own, never those of others.
MAX_EVENTS = 1000
_SLACK = 64  # rows above the bound before they are deleted, since that reads all of the device
BATCH = 100


class Events(Database):
    """The events' rows. Those that a crash finds unwritten, BATCH at most, are lost."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        super().__init__(path, read_only)
        self._unwritten: list[tuple[float, str, str, str, str]] = []
        self._seen: dict[str, float] = {}
        # (device, application) → the highest number of its events that wait, and the pair's uid.
        self._numbers: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._added: dict[str, int] = {}  # rows of each device since the bound was last applied

    def close(self) -> None:
        """Write the events that wait, and close the database."""
        try:
            self.write_events()
        finally:
            super().close()

    def set_last_seen(self, device: str, moment: float) -> None:
        """Keep when a device was last seen, unix seconds, for the next write_events()."""
        self._seen[device] = moment

    def add_event(
        self, device: str, appid: str, name: str, body: str, number: int = 0, uid: bytes = b""
    ) -> bool:
        """Keep an event of a device, and when it was seen, for the next write_events().

        body: JSON. number: of an event of the device's outbox. uid: the pair's, with a number.
        Call it outside a transaction. Returns: whether a batch was full, and all of it is
        committed. Raises: as write_events().
        """
        if number:
            self._numbers[device, appid] = number, uid
        now = time.time()
        self._seen[device] = now
        self._unwritten.append((now, device, appid, name, body))
        if len(self._unwritten) < BATCH:
            return False
        self.write_events()
        return True

    def write_events(self) -> None:
        """Commit the events and times that wait. Raises database-damaged: they are lost."""
        events, self._unwritten = self._unwritten, []
        seen, self._seen = self._seen, {}
        numbers, self._numbers = self._numbers, {}
        if not seen:
            return
        try:
            # What is acknowledged to a device must survive a power cut: it keeps no copy.
            with self.transaction(durable=bool(numbers)):
                self._do_many(
                    "INSERT INTO events (time, device, appid, name, body) VALUES (?, ?, ?, ?, ?)",
                    events,
                )
                self._do_many(
                    "UPDATE devices SET last_seen = ? WHERE device = ?",
                    [(moment, device) for device, moment in seen.items()],
                )
                # Not by names alone: the device may have been provisioned anew meanwhile.
                self._do_many(
                    "UPDATE pairs SET event_number = ?1 WHERE device = ?2 AND appid = ?3 "
                    "AND uid = ?4 AND event_number < ?1",
                    [(number, *pair, uid) for pair, (number, uid) in numbers.items()],
                )
                self._bound_events(device for _, device, *_ in events)
        except HostError as error:
            lost = f"{error.text}; {len(events)} events are lost"
            raise HostError(error.code, lost, error.hint) from None

    def _bound_events(self, devices: Iterable[str]) -> None:
        for device in devices:
            # A device that is new to this process may have brought its slack with it.
            self._added[device] = self._added.get(device, _SLACK) + 1
            if self._added[device] > _SLACK:
                self._added[device] = 0
                self._do(
                    "DELETE FROM events WHERE device = ?1 AND id <= (SELECT id FROM events "
                    "WHERE device = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                    device,
                    MAX_EVENTS,
                )

    def events(self, device: str) -> list[tuple[float, str, str, str]]:
        """Return (time, appid, name, body as JSON) of the newest MAX_EVENTS, oldest first."""
        return [row[1:] for row in self.numbered_events(device)]

    def numbered_events(self, device: str) -> list[tuple[int, float, str, str, str]]:
        """Return events() with a number before each: a later event has a higher one."""
        self.write_events()
        rows = self._do(
            "SELECT id, time, appid, name, body FROM events WHERE device = ? "
            "ORDER BY id DESC LIMIT ?",
            device,
            MAX_EVENTS,
        ).fetchall()
        return [tuple(row) for row in reversed(rows)]

    def _do_many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        with guard():
            self._db.executemany(statement, rows)
