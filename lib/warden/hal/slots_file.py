"""Two slots as files of one directory, on littlefs (boards) or POSIX: PATH/PART.SLOT.

The slot that runs is locked: nothing here opens it for writing, renames or removes it. On littlefs
a file that is open for reading and was replaced gives another file's bytes.
"""

import errno
import os

from micropython import const

from ..errors import StoreError, ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

_ENOSPC = const(28)  # not in the errno module of stock firmware


class FileSlots:
    """Two slots of components, each a file NAME beside NAME.map, the hashes of its blocks.

    names: the components, in the order of the slot record
    firmware: the component that is the firmware itself; engaged: the slot whose firmware runs;
      make_check: (size) → a check of the firmware. None here: slots_partition.py has them
    """

    firmware: "str | None" = None
    engaged: "int | None" = None
    make_check: "Callable[[int], Any] | None" = None

    def __init__(self, path: str, names: "tuple[str, ...]") -> None:
        self._path = path.rstrip("/")
        self.names = names
        self._locked: "int | None" = None
        try:
            os.mkdir(self._path)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise StoreError("filesystem", "can't create the slots' directory")

    def _file(self, slot: int, part: str) -> str:
        return "%s/%s.%d" % (self._path, part, slot)

    def lock(self, slot: int) -> None:
        """Lock the slot that runs, until the board starts anew."""
        self._locked = slot

    def _writable(self, slot: int) -> None:
        ensure(slot != self._locked, "bad-argument", "the slot that runs is never written")

    def size(self, slot: int, part: str) -> int:
        """Return the bytes of the part that are on the flash for good; 0 for none."""
        try:
            return os.stat(self._file(slot, part))[6]
        except OSError as error:
            if error.errno == errno.ENOENT:
                return 0
            raise StoreError("filesystem", "can't look at a slot (errno %d)" % (error.errno or 0))

    def read(self, slot: int, part: str) -> "Any":
        """Open a part, with seek() and readinto(). StoreError slot-damaged when it is missing."""
        try:
            return open(self._file(slot, part), "rb")
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise StoreError("slot-damaged", "a part of the slot is gone")
            raise StoreError("filesystem", "can't open a slot (errno %d)" % (error.errno or 0))

    def write(self, slot: int, part: str, resume: bool = False) -> "Any":
        """Open a part to write, from the start or, with `resume`, behind what is there.

        What was written is on the flash after flush() and close() only.
        """
        self._writable(slot)
        try:
            return open(self._file(slot, part), "ab" if resume else "wb")
        except OSError as error:
            raise full_or_broken(error)

    def remove(self, slot: int, part: str) -> None:
        """Remove a part, which need not exist."""
        self._writable(slot)
        try:
            os.remove(self._file(slot, part))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise StoreError(
                    "filesystem", "can't clear a slot (errno %d)" % (error.errno or 0)
                )

    def room(self, part: str) -> int:
        """Return the free bytes of the filesystem."""
        try:
            info = os.statvfs(self._path)
        except OSError as error:
            raise StoreError("filesystem", "can't look at a slot (errno %d)" % (error.errno or 0))
        # littlefs counts some blocks twice, and where it is nearly full its free ones are below
        # zero: without a sign, more than it has.
        return info[0] * info[3] if info[3] <= info[2] else 0

    def activate(self, slot: int) -> None:
        """Take note that the slot is staged: the next start is its first."""

    def settle(self) -> None:
        """Take note that the slot that runs is confirmed."""


def full_or_broken(error: OSError) -> StoreError:
    if error.errno == _ENOSPC:
        return StoreError("slot-full", "the update does not fit: free some space")
    return StoreError("filesystem", "can't write a slot (errno %d)" % (error.errno or 0))


def make(args: "tuple[Any, ...]") -> FileSlots:
    """Return the slots of board.SLOTS = ("file", path, names, attempts)."""
    return FileSlots(args[0], args[1])
