"""Named records as files of one directory, on littlefs (boards) or POSIX (the unix port).

A write is staged beside its target, then renamed over it: littlefs keeps the old or the new
content at every cut. On the unix port that holds for a killed process only: MicroPython has no
fsync there.

A store promises: write() is old-or-new, read() returns what the last write() put, names() lists
what is there. Secrecy and authenticity are the vault's work.
"""

import errno
import os

from micropython import const

from ..errors import StoreError
from .store_steps import StepStore

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_STAGED = const("~staged")
_ENOSPC = const(28)  # not in the errno module of stock firmware
_RESERVE = const(8192)  # two blocks of littlefs: a record and the commit beside the old ones
_PIECE = const(512)
_TOO_SMALL = const("the filesystem is full, or too small for a vault")


class FileStore(StepStore):
    """Records in a directory.

    path: absolute; created when it is missing. own: the littlefs.Littlefs that is mounted there,
    where the vault has a partition to itself: erase_all() erases it raw.
    """

    def __init__(self, path: str, own: "Any" = None) -> None:
        self._path = path.rstrip("/")
        self._own = own
        self._reserve = ""
        try:
            os.mkdir(self._path)
        except OSError as error:
            if error.errno == _ENOSPC:
                raise StoreError("vault-limit", _TOO_SMALL)
            if error.errno != errno.EEXIST:
                raise StoreError("filesystem", "can't create the vault's directory")
        # FAT, whose rename is not atomic, does not tell upper from lower case. Asked while the
        # store is empty: each time costs a write.
        fat = False
        names = self._list()
        if not names:
            try:
                open(self._file(_STAGED), "wb").close()
                os.stat(self._file(_STAGED.upper()))
                fat = True
            except OSError:
                pass
        if not names or _STAGED in names:
            self.remove(_STAGED)
        if fat:
            raise StoreError(
                "filesystem", "FAT loses files at a power cut: format the flash with littlefs"
            )

    def _file(self, name: str) -> str:
        return self._path + "/" + name

    def names(self) -> "list[str]":
        """Return the names of all records, in no order."""
        return [name for name in self._list() if name != _STAGED]

    def _list(self) -> "list[str]":
        try:
            return os.listdir(self._path)
        except OSError as error:
            raise StoreError("filesystem", "can't list the vault (errno %d)" % (error.errno or 0))
        except UnicodeError:
            raise StoreError("vault-damaged", "a file that is no record lies in the vault")

    def read(self, name: str, limit: int) -> "bytes | None":
        """Return a record's bytes, or None. StoreError vault-damaged above `limit`, before
        reading.
        """
        try:
            with open(self._file(name), "rb") as file:
                # Not by stat(): on littlefs each walk to a file costs as much as reading it.
                size = file.seek(0, 2)
                if size > limit:
                    raise StoreError(
                        "vault-damaged", "a file of the vault is larger than any record"
                    )
                file.seek(0)
                return file.read(size)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise StoreError("filesystem", "can't read the vault (errno %d)" % (error.errno or 0))

    def write(self, name: str, data: bytes) -> None:
        """Put the record: at every moment the old or the new bytes are there, whole."""
        try:
            with open(self._file(_STAGED), "wb") as file:
                file.write(data)
            os.rename(self._file(_STAGED), self._file(name))
        except OSError as error:
            if error.errno == _ENOSPC:
                raise StoreError("vault-limit", "the filesystem is full: free some space")
            raise StoreError("filesystem", "can't write the vault (errno %d)" % (error.errno or 0))

    def give_reserve(self) -> bool:
        try:
            # Emptied, not removed: a new entry would want room in a folder that is full as well.
            os.stat(self._reserve)
            open(self._reserve, "wb").close()
        except OSError:
            return False
        return True

    def has_reserve(self) -> bool:
        """Return whether the whole reserve is there."""
        try:
            return os.stat(self._reserve)[6] == _RESERVE
        except OSError:
            return False

    def keep_reserve(self) -> None:
        """Keep room for the next change in a file beside the vault."""
        self._reserve = self._path + ".reserve"
        if self.has_reserve():
            return
        try:
            with open(self._reserve, "wb") as file:
                for _ in range(_RESERVE // _PIECE):
                    file.write(bytes(_PIECE))
        except OSError:
            pass  # a part of it is better than none

    def remove(self, name: str) -> None:
        """Remove the record; it need not exist."""
        try:
            os.remove(self._file(name))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise StoreError(
                    "filesystem", "can't remove from the vault (errno %d)" % (error.errno or 0)
                )

    def erase_all(self) -> None:
        """Remove everything, and what it left in the flash. On the unix port: best effort."""
        from .erase_files import erase

        erase(self._path, self._own)


def make(args: "tuple[Any, ...]") -> FileStore:
    """Return the store of ("file", path), or of ("file", path, *arguments of block_device())."""
    if len(args) == 1:
        store = FileStore(args[0])
        store.keep_reserve()
        if not store.names() and not store.has_reserve():
            raise StoreError("vault-limit", _TOO_SMALL)
        return store
    from .block_device import block_device
    from .littlefs import Littlefs

    own = Littlefs(block_device(*args[1:]), args[0], 256 if args[1] == "rp2" else 32)
    own.mount()
    return FileStore(args[0], own)
