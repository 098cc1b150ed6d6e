"""Make, check and restore backups."""

import contextlib
import io
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from warden_host import folders
from warden_host.backup import age, archive
from warden_host.broker.backend import registry_lock
from warden_host.devices import rotation
from warden_host.errors import HostError
from warden_host.fleet import fleet as fleets
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store


@dataclass(frozen=True)
class Lock:
    """What a backup is encrypted for: recipients, public keys, or a passphrase."""

    recipients: Sequence[bytes] = ()
    passphrase: bytes | None = None
    work: int = age.WORK


@dataclass(frozen=True)
class Key:
    """What opens a backup: a secret key, or a passphrase."""

    identity: bytes | None = None
    passphrase: bytes | None = None


@dataclass(frozen=True)
class Checked:
    """What a backup holds. about: its description. devices: how many the database has."""

    about: dict[str, Any]
    files: int
    size: int
    devices: int


def make(fleet: Fleet, path: Path, lock: Lock, releases: bool = True) -> dict[str, Any]:
    """Write a backup of a fleet, served or not, and return its description.

    The file appears when it is whole. Then fleet.db knows that the present secrets are in a
    backup. Raises filesystem, bad-argument, and what the database and the registry raise.
    """
    if path.exists():
        raise HostError("filesystem", f"{path} is there already", "name another file")
    if path.absolute().parent.resolve().is_relative_to(fleet.root.resolve()):
        raise HostError(
            "bad-argument",
            f"{path} would lie in the fleet's folder, and in each later backup",
            "name a file elsewhere",
        )
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    copy = fleet.root / f".backup.{secrets.token_hex(4)}.db"
    try:
        with _created(fresh) as file:
            writer = age.Writer(file, lock.recipients, lock.passphrase, lock.work)
            with Store(fleet.database) as store:
                number = store.begin_backup()
            with registry_lock(fleet):  # database, keys and accounts of one moment
                for left in fleet.root.glob(".backup.*.db"):  # of a backup that was cut off
                    left.unlink()
                with Store(fleet.database) as store:
                    store.copy_to(copy)
                pins = b"".join(pki.load_pins(fleet.keys))
                about = archive.description(fleet, releases, number)
                tar = archive.ArchiveWriter(writer, about)
                tar.add(archive.DATABASE, copy)
                for name, found in archive.members(fleet, releases=False):
                    tar.add(name, found)
            if releases:
                for name, found in archive.members(fleet, releases=True):
                    if name.startswith("releases/"):
                        tar.add(name, found)
            tar.close()
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        # Devices let go of their former secrets for it: it must not be gone after a power cut.
        folders.sync_folder(path.absolute().parent)
    finally:
        for left in (fresh, copy):
            left.unlink(missing_ok=True)
    with Store(fleet.database) as store:
        store.complete_backup(number, pins)
    return about


def check(path: Path, key: Key) -> Checked:
    """Read a whole backup, verify every byte of it, and look into its database.

    Nothing of it is written: its database is opened in memory.
    """
    about: dict[str, Any] = {}
    files = size = 0
    devices = -1
    with _opened(path, key) as content:
        for name, length, member in archive.read(content):
            if name == archive.DESCRIPTION:
                about = archive.read_description(length, member)
            elif name == archive.DATABASE:
                devices = _check_database(member)
            files, size = files + 1, size + length
    if devices < 0:
        raise age.damaged("it holds no fleet.db")
    return Checked(about, files, size, devices)


def restore(path: Path, key: Key, into: Path) -> dict[str, Any]:
    """Make a fleet's folder of a backup, all of it or none, and return the description.

    into: a folder that is not there, or empty. Numbers that devices refuse to see twice go on
    above all that the lost host can have given. Raises fleet-exists, backup-damaged.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise HostError("fleet-exists", f"{into} is not an empty folder", "choose another folder")
    fresh = into.absolute().with_name(f".{into.absolute().name}.{secrets.token_hex(4)}")
    fresh.mkdir(mode=0o700, parents=True)
    try:
        about: dict[str, Any] = {}
        with _opened(path, key) as content:
            for name, length, member in archive.read(content):
                if name == archive.DESCRIPTION:
                    about = archive.read_description(length, member)
                else:
                    archive.copy(member, fresh / name)
        for part in ("keys", "broker", "sim"):
            (fresh / part).mkdir(mode=0o700, exist_ok=True)
        if not (fresh / archive.DATABASE).is_file():
            raise age.damaged("it holds no fleet.db")
        made = fleets.Fleet(fresh)
        pki.load_pins(made.keys)
        with Store(made.database) as store:
            store.restored(int(time.time()))
            rotation.resume_restored(made, store)
        if into.exists():
            into.rmdir()
        for folder, _, _ in os.walk(fresh):
            folders.sync_folder(Path(folder))
        os.replace(fresh, into)
        folders.sync_folder(into.absolute().parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return about


@contextlib.contextmanager
def _created(path: Path) -> Iterator[IO[bytes]]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        yield file


@contextlib.contextmanager
def _opened(path: Path, key: Key) -> Iterator[IO[bytes]]:
    """Yield the content; after the block, verify that nothing of the file is missing."""
    with path.open("rb") as file:
        reader = age.Reader(file, key.identity, key.passphrase)
        yield io.BufferedReader(reader, 1 << 17)
        reader.check_end()


def _check_database(content: IO[bytes]) -> int:
    """Return how many devices a database has. Raises backup-damaged."""
    database = sqlite3.connect(":memory:")
    try:
        database.deserialize(content.read())
        (verdict,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise age.damaged("its fleet.db is damaged")
        return int(database.execute("SELECT count(*) FROM devices").fetchone()[0])
    except sqlite3.Error:
        raise age.damaged("its fleet.db is damaged") from None
    finally:
        database.close()
