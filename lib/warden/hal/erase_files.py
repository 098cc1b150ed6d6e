"""Erase what a file store left on its medium: removed files stay in the flash (measured on
littlefs).

On littlefs, free blocks are erased by filling them once, and the folder's own pair of blocks by
writing to the folder until both were erased. A partition of the vault's own is erased block by
block; the mark of the wipe is in both of the folder's blocks by then, so that either of them tells
of it after a cut. On a host's filesystem nothing of this is done: it keeps copies where it likes.
"""

import os

from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_MARK = "key"  # says that the wipe is under way (warden.vault.wipe): it goes last
_CHUNK = const(512)
_FILL = "/~fill"


def erase(path: str, own: "Any" = None) -> None:
    """Erase a store.

    path: its folder. own: the littlefs.Littlefs that is mounted there and holds nothing else,
    which is erased raw and made anew; or None.
    """
    try:
        names = os.listdir(path)
        for name in names:
            if name != _MARK:
                _overwrite(path + "/" + name)
        if own is not None or _is_littlefs(path):
            if own is None:
                _fill(path)
            if _MARK in names:
                _churn(path, os.statvfs(path)[0])
        if _MARK in names and own is None:
            _overwrite(path + "/" + _MARK)
    except OSError as error:
        raise StoreError("filesystem", "can't erase the vault (errno %d)" % (error.errno or 0))
    if own is not None:
        own.erase()


def _overwrite(file: str) -> None:
    """Overwrite the files: all that a host's filesystem allows."""
    size = os.stat(file)[6]
    with open(file, "r+b") as stream:
        for _ in range(0, size, _CHUNK):
            stream.write(bytes(min(size, _CHUNK)))
    os.remove(file)


def _is_littlefs(path: str) -> bool:
    import vfs

    try:
        mounts: "Any" = vfs.mount()
    except TypeError:
        # Firmware that can't list its mounts is old, and has no filesystem of a host's below it.
        return hasattr(vfs, "VfsLfs2") and not hasattr(vfs, "VfsPosix")
    best, length = None, -1
    for filesystem, point in mounts:
        prefix = point if point == "/" else point + "/"
        if (path + "/").startswith(prefix) and len(prefix) > length:
            best, length = filesystem, len(prefix)
    kinds = tuple(getattr(vfs, name) for name in ("VfsLfs2", "VfsLfs1") if hasattr(vfs, name))
    return isinstance(best, kinds)


def _fill(path: str) -> None:
    """Write every free block once: littlefs erases each before."""
    chunk = bytes(_CHUNK)
    try:
        with open(path + _FILL, "wb") as stream:
            while True:
                stream.write(chunk)
    except OSError:
        pass  # full, as it should be
    os.remove(path + _FILL)


def _churn(path: str, block: int) -> None:
    """Write the mark of the wipe until the folder's log was compacted into both of its blocks.

    The mark is there all the while.
    """
    with open(path + "/" + _MARK, "rb") as stream:
        mark = stream.read()
    # A commit takes 32 bytes at least, so these fill both blocks and one more.
    for _ in range(3 * block // 32):
        with open(path + "/~staged", "wb") as stream:
            stream.write(mark)
        os.rename(path + "/~staged", path + "/" + _MARK)
