"""The content of a backup: a tar archive of the fleet's folder, its description first.

What a running service makes anew stays out: locks, sockets, logs, the broker's configuration, and
simulated devices, whose secrets are their own.
"""

import io
import json
import os
import re
import stat
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from warden_host import __version__, jsontext
from warden_host.backup.age import damaged
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store import schema

FORMAT = 1
DESCRIPTION = "backup.json"
DATABASE = "fleet.db"
MOST_BYTES = 1 << 40  # of one file
_MOST_FILES = 1_000_000
_DESCRIPTION_BYTES = 65536
_HEADER_BYTES = 65536  # of one entry, with the blocks that are read ahead
_BLOCK = 1 << 20
_LEFT_OUT = re.compile(
    r"(sim/.*|[a-z]+\.sock|web\.sessions|fleet\.db(-.*)?|(.*/)?\.[^/]*|broker/(edit\.)?lock"
    r"|broker/mosquitto\.(conf|log|log\.1))\Z",
    re.DOTALL,
)
_PART = re.compile(r"[^/\x00-\x1f\x7f]{1,255}\Z")


def members(fleet: Fleet, releases: bool) -> Iterator[tuple[str, Path]]:
    """Yield (name in the archive, path) of each file but the database.

    releases: also those. Raises filesystem for what is neither a file nor a folder.
    """
    for folder, folders, files in os.walk(fleet.root, onerror=_refuse):
        here = PurePosixPath(Path(folder).relative_to(fleet.root))
        folders[:] = sorted(one for one in folders if _is_kept(str(here / one) + "/", releases))
        for one in folders:
            if (Path(folder) / one).is_symlink():
                raise HostError(
                    "filesystem", f"{here / one} is a link: a backup has no place for it"
                )
        for one in sorted(files):
            name = str(here / one)
            if _is_kept(name, releases):
                yield name, Path(folder) / one


def _refuse(error: OSError) -> None:
    raise error


def _is_kept(name: str, releases: bool) -> bool:
    return not _LEFT_OUT.match(name) and (releases or not name.startswith("releases/"))


def description(fleet: Fleet, releases: bool, mark: int) -> dict[str, Any]:
    """Return what is said of a backup. mark: the number of this backup in fleet.db."""
    return {
        "format": FORMAT,
        "warden": __version__,
        "database": schema.FORMAT,
        "fleet": fleet.root.name,
        "made": int(time.time()),
        "number": mark,
        "releases": releases,
    }


class ArchiveWriter:
    """Write files into the archive one after the other; close() ends it."""

    def __init__(self, file: Any, about: dict[str, Any]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT)
        self.add_bytes(DESCRIPTION, json.dumps(about).encode())

    def add_bytes(self, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
        self._tar.addfile(entry, io.BytesIO(data))

    def add(self, name: str, path: Path) -> None:
        """Add a file, as long as it was when it was opened. Raises filesystem."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise HostError("filesystem", f"{name} is no file: a backup has no place for it")
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = status.st_size, 0o600, int(status.st_mtime)
            self._tar.addfile(entry, file)

    def close(self) -> None:
        self._tar.close()


class _Source:
    """What tarfile reads, with a bound: it keeps all the headers of an entry in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left = _HEADER_BYTES

    def read(self, size: int) -> bytes:
        """Return the next bytes. Raises backup-damaged at the end: the archive was cut."""
        data = self._file.read(size)
        self.left -= len(data)
        if not data:
            raise damaged("it holds no whole archive")
        if self.left < 0:
            raise damaged("a header of it is too long")
        return data


def read(file: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield (name, bytes, content) of each file, the description first.

    The content is valid until the next one is asked for. Raises backup-damaged for an archive
    with another form, with a name that leaves its folder, or with one name twice.
    """
    seen: set[str] = set()
    source = _Source(file)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], source), mode="r|") as tar:
            while (entry := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else all of them stay in memory
                # A sparse file says that it is large, and holds next to nothing.
                plain = entry.isreg() and not entry.issparse()
                content = tar.extractfile(entry) if plain else None
                if content is None or not is_safe(entry.name) or entry.name in seen:
                    raise damaged(f"it holds {jsontext.printable(entry.name[:80])!r}")
                if entry.size > MOST_BYTES or len(seen) >= _MOST_FILES:
                    raise damaged("it holds too much")
                if not seen and entry.name != DESCRIPTION:
                    raise damaged("it does not say what it is")
                seen.add(entry.name)
                source.left = entry.size + _HEADER_BYTES
                yield entry.name, entry.size, content
                while content.read(_BLOCK):
                    pass  # what the caller left
                source.left = _HEADER_BYTES
    except (tarfile.TarError, ValueError) as error:
        raise damaged(f"it holds no whole archive ({error})") from None
    if not seen:
        raise damaged("it is empty")


def is_safe(name: str) -> bool:
    """Return whether a name stays in its folder and may be written to a terminal."""
    parts = name.split("/")
    return len(name) <= 1000 and all(
        _PART.match(part) and part not in (".", "..") for part in parts
    )


def read_description(size: int, content: IO[bytes]) -> dict[str, Any]:
    """Return the description. Raises backup-damaged, also for one of a newer Warden."""
    if size > _DESCRIPTION_BYTES:
        raise damaged("its description is too long")
    about = jsontext.parse_object(content.read(), _DESCRIPTION_BYTES, "backup-damaged")
    for key in ("format", "database", "made", "number"):
        if type(about.get(key)) is not int:
            raise damaged("its description has another form")
    if about["format"] > FORMAT or about["database"] > schema.FORMAT:
        raise damaged(
            f"it was made by a newer Warden, {jsontext.printable(str(about.get('warden')))[:40]}"
        )
    return about


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, for this user alone."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(mode=0o700)


def copy(content: IO[bytes], target: Path) -> None:
    """Write a new file with this content, for its owner alone, durably."""
    _make_folder(target.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
        while block := content.read(_BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
