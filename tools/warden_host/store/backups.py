"""What fleet.db knows of its backups, and which rotations wait for the next one.

Backups are numbered. A device that was given new secrets keeps its former ones until a backup has
the new ones (devices/rotation.py): a fleet restored from the one before can still speak to it.
"""

import contextlib
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from warden_host.store.database import Database, guard

_SEQUENCES_LEFT_OUT = 1000  # sequence numbers that the lost host may have given since the backup
_NUMBERS_LEFT_OUT = 1000
_WAITING = "waits for backup:"


class BackupState(NamedTuple):
    """begun, done: numbers of backups, 0 for none. made: when the last one was done, unix."""

    begun: int = 0
    done: int = 0
    made: float = 0.0


class Backups(Database):
    """The rows of backups, in the table of settings."""

    def backup_state(self) -> BackupState:
        """Return the numbers of the fleet's backups."""
        value = self._setting("backups")
        if value is None:
            return BackupState()
        with guard():
            begun, done, made = json.loads(value)
            return BackupState(int(begun), int(done), float(made))

    def begin_backup(self) -> int:
        """Return a new backup's number. What changes from now on is not in it."""
        with self.transaction():
            state = self.backup_state()
            self._set("backups", json.dumps(state._replace(begun=state.begun + 1)))
        return state.begun + 1

    def complete_backup(self, number: int, pins: bytes) -> None:
        """Record that a backup is whole. pins: of the server's keys in it."""
        with self.transaction():
            state = self.backup_state()
            done = max(state.done, number)
            self._set("backups", json.dumps(state._replace(done=done, made=time.time())))
            self._do("INSERT OR REPLACE INTO settings VALUES ('backup pins', ?)", pins)

    def copy_to(self, path: Path) -> None:
        """Copy the database, as of now, into a new file of this user alone; others go on with it.

        Raises database-damaged, also where the copy is not sound.
        """
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with guard(), contextlib.closing(sqlite3.connect(path)) as copy:
            self._db.backup(copy)
            (verdict,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise ValueError(verdict)
            copy.execute("PRAGMA journal_mode = DELETE")

    def backed_up_pins(self) -> bytes:
        """Return the pins of the server's keys in the last backup, one after the other."""
        return self._setting("backup pins") or b""

    # Rotations that wait for a backup

    def await_backup(self, device: str) -> None:
        """Let the device's rotation wait for the next backup, in a fleet that has backups.

        Call it inside a transaction.
        """
        state = self.backup_state()
        if state.begun:
            self._set(_WAITING + device, str(state.begun))

    def waits_for_backup(self, device: str) -> bool:
        """Return whether no backup was made since await_backup()."""
        value = self._setting(_WAITING + device)
        with guard():
            return value is not None and int(value) >= self.backup_state().done

    def waiting_for_backup(self) -> list[str]:
        """Return the devices whose rotation waits, or waited, for a backup."""
        rows = self._do("SELECT name FROM settings WHERE name GLOB ? ORDER BY 1", _WAITING + "*")
        return [row[0].removeprefix(_WAITING) for row in rows.fetchall()]

    def end_wait(self, device: str) -> None:
        """Forget that the device's rotation waits."""
        self._do("DELETE FROM settings WHERE name = ?", _WAITING + device)

    # A restored fleet

    def epoch(self) -> int:
        """Return how often this fleet was restored: the higher one of two hosts serves."""
        value = self._setting("epoch")
        with guard():
            return 0 if value is None else int(value)

    def set_epoch(self, epoch: int) -> None:
        self._set("epoch", str(epoch))

    def sequence_floor(self) -> int:
        """Return the sequence number above which releases go on."""
        value = self._setting("sequence floor")
        with guard():
            return 0 if value is None else int(value)

    def rotation_floor(self) -> int:
        """Return the number above which rotations of each device go on."""
        value = self._setting("rotation floor")
        with guard():
            return 0 if value is None else int(value)

    def restored(self, now: int) -> None:
        """Make this the database of a restored fleet. now: unix seconds.

        Numbers that a device takes only once go on above those that the lost host may have given.
        What it may have done since is not done again: a command for a sleeper may be executed, and
        a rollout stopped for its failures.
        """
        with self.transaction():
            # What a rotation waited for is this backup: from now on either secret may be in use.
            self._do("DELETE FROM settings WHERE name GLOB ?", _WAITING + "*")
            self._do("UPDATE held_commands SET sent = 1")
            self._do(
                "UPDATE rollouts SET state = 'stopped', reason = 'restored from a backup' "
                "WHERE state = 'active'"
            )
            self.set_epoch(self.epoch() + 1)
            last = self._do("SELECT coalesce(max(sequence), 0) FROM releases").fetchone()[0]
            if last:
                floor = max(last, self.sequence_floor()) + _SEQUENCES_LEFT_OUT
                self._set("sequence floor", str(floor))
            self._set("rotation floor", str(max(now, self.rotation_floor() + _NUMBERS_LEFT_OUT)))

    def _setting(self, name: str) -> bytes | None:
        row = self._do("SELECT value FROM settings WHERE name = ?", name).fetchone()
        return None if row is None else bytes(row[0])

    def _set(self, name: str, value: str) -> None:
        self._do("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value.encode())
