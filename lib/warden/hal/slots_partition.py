"""Two slots on an ESP32 with two OTA partitions: the firmware of slot n is in ota_n, the rest in
files.

Stock firmware has such a partition table in ESP32_GENERIC-OTA and a few boards. Semantics:
MicroPython's ports/esp32/esp32_partition.c and ESP-IDF's app_update component.

The chip's bootloader keeps its own record of the firmware to start, and tries a new one once:
unless that is confirmed, the next start is the old one's. The slot record stays the authority:
what starts is compared with it (boot.py).

A partition has no length of its own. Blocks are written in order, and the block behind the last
one
is always erased: a download goes on at the first block that looks erased, less one that may be
torn. The digest of the whole decides whether that was right.
"""

import esp32
from micropython import const

from ..errors import PeerError, StoreError, ensure
from .slots_file import FileSlots

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

FIRMWARE = "firmware"

_BLOCK = const(4096)
_ERASE = const(6)
_OTA_0 = const(0x10)  # subtypes of OTA partitions begin here
_PROBE = const(32)
_ENOSPC = const(28)


class PartitionSlots(FileSlots):
    """names: the components; `firmware` is the partition, and not the first one, which has the
    manifest.

    Raises StoreError no-ota unless the firmware that runs is in one of exactly two OTA partitions.
    """

    firmware: "str | None" = FIRMWARE

    def __init__(self, path: str, names: "tuple[str, ...]") -> None:
        ensure(
            FIRMWARE in names[1:], "bad-argument", "the first component is no firmware, another is"
        )
        super().__init__(path, names)
        try:
            number: "Any" = esp32.Partition.RUNNING  # the stubs know labels only
            running = esp32.Partition(number)
            other = running.get_next_update()
            numbers = [running.info()[1] - _OTA_0, other.info()[1] - _OTA_0]
            more = other.get_next_update().info()[1] - _OTA_0
        except OSError:
            numbers = []
            more = -1
        if sorted(numbers) != [0, 1] or more != numbers[0]:
            raise StoreError("no-ota", "the firmware has no second OTA partition beside it")
        self.engaged: "int | None" = numbers[0]
        self._parts = (running, other) if numbers[0] == 0 else (other, running)

    def _open(self, slot: int) -> "Any":
        """Return the partition that an update may write."""
        ensure(slot != self.engaged, "bad-argument", "the firmware that runs is never written")
        self._writable(slot)
        return self._parts[slot]

    def size(self, slot: int, part: str) -> int:
        """Return the bytes of a part; a firmware's are those of an interrupted download."""
        if part != FIRMWARE:
            return super().size(slot, part)
        partition = self._parts[slot]
        _, _, _, size, _, encrypted = partition.info()
        if encrypted:
            return 0  # erased blocks don't look erased
        probe = bytearray(_PROBE)
        erased = b"\xff" * _PROBE
        written = 0
        while written * _BLOCK < size:
            partition.readblocks(written, probe, 0)
            if probe == erased:
                break
            written += 1
        return max(0, written - 1) * _BLOCK

    def read(self, slot: int, part: str) -> "Any":
        if part != FIRMWARE:
            return super().read(slot, part)
        return _Reader(self._parts[slot])

    def write(self, slot: int, part: str, resume: bool = False) -> "Any":
        if part != FIRMWARE:
            return super().write(slot, part, resume)
        return _Writer(self._open(slot), self.size(slot, part) // _BLOCK if resume else 0)

    def remove(self, slot: int, part: str) -> None:
        if part != FIRMWARE:
            super().remove(slot, part)
            return
        try:
            self._open(slot).ioctl(_ERASE, 0)
        except OSError as error:
            raise StoreError("filesystem", "can't clear a slot (errno %d)" % (error.errno or 0))

    def room(self, part: str) -> int:
        if part != FIRMWARE:
            return super().room(part)
        size: int = self._parts[1 - (self.engaged or 0)].info()[3]
        return size

    def activate(self, slot: int) -> None:
        """Start this slot's firmware next. PeerError firmware-invalid: the chip refuses it."""
        try:
            self._parts[slot].set_boot()
        except OSError:
            raise PeerError("firmware-invalid", "the chip's own check refuses the firmware")

    def settle(self) -> None:
        """Cancel the rollback of the bootloader, where it has one."""
        try:
            esp32.Partition.mark_app_valid_cancel_rollback()
        except OSError:
            pass


class _Reader:
    """Reads a partition to its end."""

    def __init__(self, partition: "Any") -> None:
        self._partition = partition
        self._size: int = partition.info()[3]
        self._at = 0

    def seek(self, at: int) -> None:
        self._at = at

    def readinto(self, buffer: "Any") -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        if len(view):
            self._partition.readblocks(self._at // _BLOCK, view, self._at % _BLOCK)
        self._at += len(view)
        return len(view)

    def close(self) -> None:
        pass


class _Writer:
    """Writes whole blocks, each erased before the one in front of it; FF fills the last."""

    def __init__(self, partition: "Any", block: int) -> None:
        self._partition = partition
        self._count = partition.info()[3] // _BLOCK
        self._block = block
        self._buffer = memoryview(bytearray(_BLOCK))
        self._fill = 0
        partition.ioctl(_ERASE, block)

    def write(self, data: "Any") -> int:
        view = memoryview(data)
        total = len(view)
        while len(view):
            count = min(len(view), _BLOCK - self._fill)
            self._buffer[self._fill : self._fill + count] = view[:count]
            self._fill += count
            view = view[count:]
            if self._fill == _BLOCK:
                self._program()
        return total

    def _program(self) -> None:
        if self._block >= self._count:
            raise OSError(_ENOSPC)
        if self._block + 1 < self._count:
            self._partition.ioctl(_ERASE, self._block + 1)
        self._partition.writeblocks(self._block, self._buffer, 0)
        self._block += 1
        self._fill = 0

    def flush(self) -> None:
        """Do nothing: whole blocks are there already."""

    def close(self) -> None:
        if self._fill:
            for at in range(self._fill, _BLOCK):
                self._buffer[at] = 0xFF
            self._program()


def make(args: "tuple[Any, ...]") -> PartitionSlots:
    """Return the slots of board.SLOTS = ("partition", path, names, attempts, …)."""
    return PartitionSlots(args[0], args[1])
