"""fleet.db as a file: opened, migrated to the present format, changed in transactions."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from warden_client import secretfile

from warden_host.errors import HostError
from warden_host.store import schema

MAX_WAL = 8 << 20  # bytes that the file -wal keeps once its content is in the database


class Database:
    """An open fleet.db, for one thread at a time. Raises database-damaged, key-permissions."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """read_only: change neither the file nor its folder; an older format is refused."""
        if read_only:
            self._open_for_reading(path)
            return
        if path.exists():
            # Root may read a user's fleet: SQLite gives what it makes then to the file's owner.
            owner = path.parent.stat().st_uid if os.geteuid() == 0 else None
            secretfile.check_mode(path.lstat(), path, owner)
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with guard():
            self._db = sqlite3.connect(
                path, timeout=10, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            # Keys and passwords that were replaced must not remain in the file.
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.execute(f"PRAGMA journal_size_limit = {MAX_WAL}")
            self._synchronous = ""
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > schema.FORMAT:
                raise HostError(
                    "database-damaged",
                    f"fleet.db is of a newer Warden: format {version}, "
                    f"this one knows {schema.FORMAT}",
                    "use the newer `warden`, or restore a backup of the fleet from before it",
                )
            if version not in (*schema.SCRIPTS, schema.FORMAT):
                raise HostError("database-damaged", f"fleet.db is of no format: {version}")
            if version != schema.FORMAT:
                self._db.executescript(schema.SCRIPTS[version])

    def _open_for_reading(self, path: Path) -> None:
        if path.exists():
            # Root may read a user's fleet: SQLite gives what it makes then to the file's owner.
            owner = path.parent.stat().st_uid if os.geteuid() == 0 else None
            secretfile.check_mode(path.lstat(), path, owner)
        # A reader makes the files -wal and -shm where they are missing. Without -wal nobody has
        # the database open, and all of it is in the one file.
        used = path.with_name(path.name + "-wal").exists()
        uri = f"{path.absolute().as_uri()}?{'mode=ro' if used else 'immutable=1'}"
        with guard():
            self._db = sqlite3.connect(uri, timeout=10, isolation_level=None, uri=True)
            self._synchronous = ""
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != schema.FORMAT:
            known = version in schema.SCRIPTS
            raise HostError(
                "database-damaged",
                f"fleet.db has format {version}, and this Warden writes {schema.FORMAT}",
                "`warden devices` migrates it; make a backup before" if known else "",
            )

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self, durable: bool = True) -> Iterator[None]:
        """Commit all changes of the block, or none.

        durable: on the disk when the block ends. A proven (boot, connect) or a new key must
        survive a power cut, since an old hello would count again. Reports of devices need not:
        they are not worth a wait for the disk each time.
        """
        synchronous = "FULL" if durable else "NORMAL"
        with guard():
            if synchronous != self._synchronous:
                self._db.execute("PRAGMA synchronous = " + synchronous)
                self._synchronous = synchronous
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with guard():
                self._db.execute("COMMIT")
        except BaseException:
            # On a full disk SQLite may have rolled back; after a failed COMMIT it may not have.
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise

    def _do(self, statement: str, *values: Any) -> sqlite3.Cursor:
        with guard():
            return self._db.execute(statement, values)


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Turn SQLite's errors into database-damaged with a hint."""
    try:
        yield
    except (sqlite3.Error, ValueError) as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise HostError(
            "database-damaged", f"fleet.db: {error}", _HINTS.get(primary, "")
        ) from None


_DENIED = "run it as the fleet's owner, and look at the mode of the fleet's folder"
_BUSY = "another `warden` is stuck, or waits in another window: end it and try again"
_HINTS = {
    sqlite3.SQLITE_FULL: "free some space, and give the same command again",
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_CANTOPEN: _DENIED,
    sqlite3.SQLITE_IOERR: "look at the disk; then restore fleet.db from a backup",
}
