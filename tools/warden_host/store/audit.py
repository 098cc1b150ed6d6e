"""The audit log in fleet.db: who did what, when, and how it ended; appended to and never changed.

Each row's hash covers the row and the hash of the row before, so that a changed, moved or missing
row shows. Rows that were cut off at the end show against an exported copy alone: who can write
fleet.db can write a shorter chain, so keep exports where the fleet's owner can't change them.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import NamedTuple

from warden_host.store.database import Database

MAX_ACTION = 500  # characters
_START = bytes(32)
_PAGE = 1000  # rows
_BASE = "audit_base"
_COLUMNS = "id, time, who, action, outcome, started, hash"


class Entry(NamedTuple):
    """One row.

    id: 1, 2, … without a gap. time: unix milliseconds. who: name and Unix user. action: a command
    and its arguments. outcome: "" where the action starts, else "ok" or an error's code.
    started: the ID of the row with which the action started, or 0. hash: SHA-256.
    """

    id: int
    time: int
    who: str
    action: str
    outcome: str
    started: int
    hash: bytes

    def expected_hash(self, before: bytes) -> bytes:
        """Return the hash that this row must have after a row with the hash `before`."""
        row = [self.id, self.time, self.who, self.action, self.outcome, self.started]
        text = json.dumps(row, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(before + text.encode()).digest()


class Break(NamedTuple):
    """Where a chain is broken: the ID that was expected there, and what is wrong."""

    id: int
    why: str


class Audit(Database):
    """The audit log's rows."""

    def add_audit(
        self, who: str, action: str, outcome: str = "", started: int = 0, durable: bool = True
    ) -> int:
        """Append a row and return its ID. Raises database-damaged: then don't do the action."""
        with self.transaction(durable):
            last, before = self._last()
            row = Entry(
                last + 1,
                time.time_ns() // 1_000_000,
                who,
                action[:MAX_ACTION],
                outcome,
                started,
                b"",
            )
            self._do(
                "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)",
                *row[:-1],
                row.expected_hash(before),
            )
        return row.id

    def audit_rows(self, after: int = 0) -> Iterator[Entry]:
        """Yield the rows with higher IDs, in order, without holding all of them."""
        query = f"SELECT {_COLUMNS} FROM audit WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608
        while rows := self._do(query, after, _PAGE).fetchall():
            for row in rows:
                yield Entry(*row)
            after = rows[-1][0]

    def latest_audit_rows(self, count: int) -> list[Entry]:
        """Return the last `count` rows, in order."""
        query = f"SELECT {_COLUMNS} FROM audit ORDER BY id DESC LIMIT ?"  # noqa: S608
        return [Entry(*row) for row in reversed(self._do(query, count).fetchall())]

    def audit_rows_from(self, highest: int, most: int) -> list[Entry]:
        """Return the rows from an ID downwards, the newest first; `most` of them at most."""
        query = f"SELECT {_COLUMNS} FROM audit WHERE id <= ? ORDER BY id DESC LIMIT ?"  # noqa: S608
        return [Entry(*row) for row in self._do(query, highest, most)]

    def audit_base(self) -> tuple[int, bytes]:
        """Return ID and hash of the last row that was trimmed; (0, 32 zero bytes) if none was."""
        row = self._do("SELECT value FROM settings WHERE name = ?", _BASE).fetchone()
        if row is None:
            return 0, _START
        return int.from_bytes(row[0][:8], "big"), bytes(row[0][8:])

    def trim_audit(self, last: Entry) -> None:
        """Remove the rows up to `last`, which an export holds. The chain goes on from it."""
        with self.transaction():
            base = last.id.to_bytes(8, "big") + last.hash
            self._do("INSERT OR REPLACE INTO settings VALUES (?, ?)", _BASE, base)
            self._do("DELETE FROM audit WHERE id <= ?", last.id)

    def _last(self) -> tuple[int, bytes]:
        row = self._do("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
        return self.audit_base() if row is None else (row[0], row[1])


def find_break(rows: Iterator[Entry], base: tuple[int, bytes]) -> tuple[int, Break | None]:
    """Return the number of rows that hold, and the first break of the chain, if any.

    base: ID and hash of the row before the first.
    """
    id_, before = base
    held = 0
    for row in rows:
        if row.id != id_ + 1:
            return held, Break(id_ + 1, "missing" if row.id > id_ + 1 else "out of order")
        if row.hash != row.expected_hash(before):
            return held, Break(row.id, "changed")
        id_, before = row.id, row.hash
        held += 1
    return held, None
