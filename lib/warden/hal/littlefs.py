"""A littlefs of the vault's own, on a partition that holds nothing else: a wipe erases it raw.

Nothing is formatted that may hold something. A flash that can't be mounted counts as empty where
everything behind its first two blocks is erased (a new chip, or a format that was cut), or where
one of these two is erased and the other is not a littlefs' (an erasure that was cut: it begins
there). Anything else is an error, and the owner's to erase.
"""

import errno

import vfs
from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_MAGIC = b"littlefs"  # at byte 8 of the first two blocks
_PIECE = const(256)


class Littlefs:
    """device: readblocks and writeblocks with an offset, ioctl 4 (count), 5 (size) and 6 (erase).
    path: where it is mounted, once a start.
    unit: least bytes of one program.
    """

    def __init__(self, device: "Any", path: str, unit: int = 32) -> None:
        self._device = device
        self._path = path
        self._unit = unit
        self._size: int = device.ioctl(5, 0)
        self._blocks: int = device.ioctl(4, 0)

    def mount(self) -> None:
        """Mount it, or format an empty flash. StoreError filesystem for any other."""
        try:
            self._mount()
        except StoreError:
            if not self._is_empty():
                raise
            self._erase()
            self._format()

    def erase(self) -> None:
        """Erase every block raw, then format. After a cut the next mount() goes on."""
        try:
            vfs.umount(self._path)
        except OSError:
            pass  # an erasure that failed before
        self._erase()
        self._format()

    def _mount(self) -> None:
        try:
            lfs: "Any" = vfs.VfsLfs2
            vfs.mount(lfs(self._device, progsize=self._unit), self._path)
        except OSError as error:
            if error.errno == errno.EPERM:
                return  # mounted earlier in this start
            raise StoreError(
                "filesystem",
                "the vault's partition holds no littlefs that can be mounted (errno %d)"
                % (error.errno or 0),
            )

    def _format(self) -> None:
        try:
            vfs.VfsLfs2.mkfs(self._device, progsize=self._unit)
        except OSError as error:
            raise StoreError(
                "filesystem",
                "the vault's partition can't be formatted (errno %d)" % (error.errno or 0),
            )
        self._mount()

    def _erase(self) -> None:
        for block in range(self._blocks):
            if block < 2:
                # First it stops being a filesystem's: a block that was erased by half is then not
                # taken for one that was damaged. The name alone goes, so that a cut in the middle
                # of this program has touched the name, or nothing.
                first = bytearray(self._unit)
                self._device.readblocks(block, first, 0)  # where that fails, all of it goes
                first[8:16] = bytes(8)
                self._done(self._device.writeblocks(block, first, 0))
            self._done(self._device.ioctl(6, block))

    def _done(self, result: "Any") -> None:
        if result is False or (result is not None and result is not True and result < 0):
            raise StoreError("filesystem", "the flash did not erase a block")

    def _is_empty(self) -> bool:
        if all(self._is_erased(block) for block in range(2, self._blocks)):
            return True
        for block, other in ((0, 1), (1, 0)):
            if self._is_erased(block) and self._read(other, 0, 16)[8:] != _MAGIC:
                return True
        return False

    def _is_erased(self, block: int) -> bool:
        for at in range(0, self._size, _PIECE):
            piece = self._read(block, at, min(_PIECE, self._size - at))
            if piece != b"\xff" * len(piece):
                return False
        return True

    def _read(self, block: int, at: int, size: int) -> bytearray:
        buffer = bytearray(size)
        self._done(self._device.readblocks(block, buffer, at))
        return buffer
