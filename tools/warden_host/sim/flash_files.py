"""Look at the flash of a simulated board: the files of its folder, as they are.

The fuses are not in the flash, and no name leads out of it.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from warden_host.errors import HostError

MAX_FILES = 200  # of a page
MAX_READ = 4096
_MAX_DEPTH = 8
_MAX_PATH = 255


@dataclass(frozen=True)
class FlashFile:
    """path: as the board names it. changed: unix seconds."""

    path: str
    size: int
    changed: float


def files(root: Path, after: bytes = b"") -> tuple[list[FlashFile], bytes]:
    """Return regular files of a board's flash in order, and where a next page begins.

    The files of a folder come before those of its folders. after: what the page before returned,
    b"" for the first page. The last page returns b"".
    """
    base = os.fsencode(root)
    begin = _key(after.split(b"/")) if after else ()
    found: list[FlashFile] = []
    last = b""
    for folder, folders, names in os.walk(base):
        parts = [part for part in folder[len(base) :].split(b"/") if part]
        folders.sort()
        if len(parts) >= _MAX_DEPTH:
            folders.clear()
        if tuple((1, part) for part in parts) < begin[: len(parts)]:
            folders.clear()  # all of it was on pages before
            continue
        for name in sorted(names):
            if _key([*parts, name]) <= begin:
                continue
            try:
                state = os.lstat(os.path.join(folder, name))
            except OSError:
                continue  # the board has removed it
            if stat.S_ISREG(state.st_mode):
                if len(found) >= MAX_FILES:
                    return found, last
                last = b"/".join([*parts, name])
                # A name that is no text can be seen, and not be read.
                path = "/" + last.decode(errors="replace")
                found.append(FlashFile(path, state.st_size, state.st_mtime))
    return found, b""


def _key(parts: list[bytes]) -> tuple[tuple[int, bytes], ...]:
    """Return what sorts paths as files() walks."""
    return (*((1, part) for part in parts[:-1]), (0, parts[-1]))


def read(root: Path, path: str, offset: int) -> tuple[bytes, int]:
    """Return at most MAX_READ bytes of a file from the offset on, and the size of the file.

    Raises bad-argument where the flash has no such file.
    """
    missing = HostError("bad-argument", "the flash holds no such file")
    parts = path.split("/")[1:]
    if len(path) > _MAX_PATH or path[:1] != "/" or len(parts) > _MAX_DEPTH + 1:
        raise missing
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise missing
    opened = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        # Step by step: no link leads out, not even one that is put there meanwhile.
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            opened.append(os.open(part, flags, dir_fd=opened[-1]))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        opened.append(os.open(parts[-1], flags, dir_fd=opened[-1]))
        state = os.fstat(opened[-1])
        if not stat.S_ISREG(state.st_mode):
            raise missing
        return os.pread(opened[-1], MAX_READ, offset), state.st_size
    except (OSError, OverflowError):
        raise missing from None
    finally:
        for fd in opened:
            os.close(fd)
