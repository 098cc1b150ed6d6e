"""A log of bounded size: two files, of which the older one is replaced."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class BoundedLog:
    """Append to a file; at limit bytes rename it to NAME.1 and start a new one."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._file = self._open()

    @property
    def older(self) -> Path:
        return self._path.with_name(self._path.name + ".1")

    def write(self, data: bytes) -> None:
        """Write at most limit bytes of data. Raises OSError."""
        if self._file.tell() + len(data) > self._limit:
            self._rotate()
        self._file.write(data[: self._limit])

    def close(self) -> None:
        self._file.close()

    def _rotate(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self.older)
        fresh = self._open()
        self._file.close()
        self._file = fresh

    def _open(self) -> IO[bytes]:
        return open(self._path, "ab", buffering=0, opener=_owners)


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a BoundedLog, the oldest first."""
    for part in (path.with_name(path.name + ".1"), path):
        with contextlib.suppress(FileNotFoundError), open(part, errors="replace") as file:
            for line in file:
                yield line.rstrip("\n")


def _owners(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
