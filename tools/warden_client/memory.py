"""What an application keeps over a restart: what each device proved, the events that it took.

And the last list of its devices' keys that the authority sent (updates.py): entries and number are
one transaction, so that a power cut leaves the list before or the new one.
One SQLite file, mode 600, beside the application's file. Its lock is held while the application
runs, so two processes of one application exclude each other: they would share an account, and
throw each other off the broker.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import NamedTuple, Self

from warden_client import secretfile
from warden_client.errors import HostError
from warden_client.protocol.freshness import NOTHING_PROVEN, Proof

_VERSION = 2
_LISTS = f"""
CREATE TABLE lists (
    kid BLOB PRIMARY KEY, number INTEGER NOT NULL, scopes TEXT NOT NULL, whole INTEGER NOT NULL)
    STRICT;
CREATE TABLE listed (device TEXT PRIMARY KEY, entry TEXT NOT NULL) STRICT;
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_SCHEMA = f"""
BEGIN;
CREATE TABLE pairs (
    kid BLOB PRIMARY KEY, boot INTEGER NOT NULL, connect INTEGER NOT NULL,
    vault_gen INTEGER NOT NULL, event_number INTEGER NOT NULL, quarantine TEXT NOT NULL) STRICT;
{_LISTS}
"""
_SCRIPTS = {0: _SCHEMA, 1: f"BEGIN; {_LISTS}"}


class Known(NamedTuple):
    """What was kept of the sealing key of one device: by its key ID, which is no secret."""

    proven: Proof = NOTHING_PROVEN
    event_number: int = 0
    quarantine: str = ""


class List(NamedTuple):
    """What the lists of keys said. number: of the last one. scopes: JSON, or "".

    whole: whether the entries are all devices, or what differs from the application's file.
    entries: device → JSON; "": the device is gone.
    """

    number: int
    scopes: str
    whole: bool
    entries: dict[str, str]


class Memory:
    """The open file. Raises app-running, key-permissions, key-damaged."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                secretfile.check_mode(os.fstat(descriptor), path)  # it holds keys
            finally:
                os.close(descriptor)
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise HostError("key-permissions", f"{path.name} can't be opened: {error}") from None
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")  # replaced keys must not remain in it
            self._db.execute("BEGIN EXCLUSIVE")  # the lock stays after the end of it
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            self._db.execute("COMMIT")
            if version in _SCRIPTS:
                self._db.executescript(_SCRIPTS[version])
        except sqlite3.OperationalError as error:
            self._db.close()
            raise _failure(error, path) from None
        except sqlite3.Error as error:
            self._db.close()
            raise HostError("key-damaged", f"{path.name}: {error}") from None
        if version not in (*_SCRIPTS, _VERSION):
            self._db.close()
            raise HostError("key-damaged", f"{path.name} is of a newer package")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def known(self, kid: bytes) -> Known | None:
        """Return what was kept of a key; None for nothing. Raises filesystem."""
        row = self._do(
            "SELECT boot, connect, vault_gen, event_number, quarantine FROM pairs WHERE kid = ?",
            (kid,),
        ).fetchone()
        return None if row is None else Known(Proof(*row[:3]), row[3], row[4])

    def keep(self, kid: bytes, known: Known) -> None:
        """Replace what is kept of a key, durably. Raises filesystem."""
        self._do(
            "INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?, ?, ?)",
            (kid, *known.proven, known.event_number, known.quarantine),
        )

    def known_list(self, kid: bytes) -> List | None:
        """Return what is kept under a secret; None for nothing. Raises filesystem."""
        row = self._do("SELECT number, scopes, whole FROM lists WHERE kid = ?", (kid,)).fetchone()
        if row is None:
            return None
        entries = dict(self._do("SELECT device, entry FROM listed", ()).fetchall())
        return List(row[0], row[1], bool(row[2]), entries)

    def keep_list(self, kid: bytes, new: List) -> None:
        """Keep a list with its number, or nothing of it: a whole one replaces what is kept.

        Raises filesystem.
        """
        known = self.known_list(kid)
        self._do("BEGIN", ())
        try:
            self._do("DELETE FROM lists", ())
            if new.whole or known is None:  # else another secret's stay
                self._do("DELETE FROM listed", ())
            whole = new.whole or (known is not None and known.whole)
            self._do(
                "INSERT INTO lists VALUES (?, ?, ?, ?)", (kid, new.number, new.scopes, int(whole))
            )
            for pair in new.entries.items():
                self._do("INSERT OR REPLACE INTO listed VALUES (?, ?)", pair)
            self._do("COMMIT", ())
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise

    def _do(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            hint = "see whether its disk is full or failing"
            raise HostError("filesystem", f"{self._name}: {error}", hint) from None


def _failure(error: sqlite3.OperationalError, path: Path) -> HostError:
    if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
        return HostError(
            "app-running",
            f"another process has {path.name}",
            "end the other one, or name another file: an application runs once",
        )
    return HostError("key-damaged", f"{path.name}: {error}")
