"""Check a firmware for an Espressif chip before it is written: bootloader, table, applications.

The whole image as MicroPython's downloads have it: it begins with the bootloader. Source: the
esptool documentation, Firmware Image Format, and ESP-IDF's chapter Partition Tables.
"""

import hashlib
import struct
from dataclasses import dataclass

from warden_host.chips.chip import Chip
from warden_host.chips.espressif import load_image
from warden_host.errors import HostError

MAX_BYTES = 64 << 20
# Where ESP-IDF puts the table, and up to where a build moves it for a larger bootloader.
_TABLE_AT = 0x8000
_TABLE_LAST = 0x10000
_TABLE_BYTES = 0xC00
_SECTOR = 0x1000
_ENTRY = struct.Struct("<2sBBII16sI")
_MAGIC = b"\xaa\x50"
_MD5 = b"\xeb\xeb" + b"\xff" * 14
_IMAGE_MAGIC = 0xE9
_HEADER_BYTES = 24
_CHIP_AT = 12
_APP = 0


@dataclass(frozen=True)
class Partition:
    """An entry of the table; offset and size in bytes of flash."""

    label: str
    kind: int
    subtype: int
    offset: int
    size: int


@dataclass(frozen=True)
class Firmware:
    """data: from chip.firmware_at on. apps: the partitions that hold an application."""

    data: bytes
    partitions: tuple[Partition, ...]
    bootloader: bytes
    apps: tuple[bytes, ...]


def read(data: bytes, name: str, chip: Chip, flash: int) -> Firmware:
    """Return the parts of a firmware.

    name: of the chip, in esptool's words. flash: bytes that the board has.
    Raises bad-firmware, wrong-board.
    """
    if not _HEADER_BYTES <= len(data) <= MAX_BYTES:
        raise _bad("has a size that no firmware has")
    if chip.firmware_at + len(data) > flash:
        raise _bad(f"takes more than the {flash >> 20} MB flash of the board")
    if data[0] != _IMAGE_MAGIC:
        raise _bad("does not begin with a bootloader")
    (chip_id,) = struct.unpack_from("<H", data, _CHIP_AT)
    if chip_id != chip.image_id:
        raise HostError(
            "wrong-board",
            f"this firmware is for another chip than the {chip.label}",
            "download the one for this board",
        )
    table_at = _find_table(data, chip)
    partitions = _partitions(data[table_at : table_at + _TABLE_BYTES], flash)
    bootloader = _image(data[:table_at], name, "bootloader")
    apps = []
    for one in partitions:
        start = one.offset - chip.firmware_at
        content = data[start : start + one.size]
        if one.kind == _APP and content[:1] == bytes([_IMAGE_MAGIC]):
            apps.append(_image(content, name, f"application in {one.label}"))
    if not apps:
        raise _bad("holds no application")
    return Firmware(data, partitions, bootloader, tuple(apps))


def _find_table(data: bytes, chip: Chip) -> int:
    """Return the offset of the partition table in the file."""
    for at in range(_TABLE_AT, _TABLE_LAST + 1, _SECTOR):
        start = at - chip.firmware_at
        if data[start : start + 2] == _MAGIC:
            return start
    raise _bad("has no partition table: give the whole image, not the application alone")


def _partitions(table: bytes, flash: int) -> tuple[Partition, ...]:
    found: list[Partition] = []
    for at in range(0, len(table) - _ENTRY.size + 1, _ENTRY.size):
        entry = table[at : at + _ENTRY.size]
        if entry[:16] == _MD5:
            if entry[16:] != hashlib.md5(table[:at], usedforsecurity=False).digest():
                raise _bad("has a damaged partition table")
            break
        if entry[:2] != _MAGIC:
            break
        _, kind, subtype, offset, size, label, _flags = _ENTRY.unpack(entry)
        text = label.rstrip(b"\0").decode("ascii", "backslashreplace")
        if offset + size > flash:
            raise _bad(f"has a partition {text!r} behind the end of the board's flash")
        found.append(Partition(text, kind, subtype, offset, size))
    return tuple(found)


def _image(data: bytes, name: str, what: str) -> bytes:
    """Return the image with its signature sector, if it has one."""
    length = load_image(name, data, what)
    end = -(-length // _SECTOR) * _SECTOR
    return data[: end + _SECTOR]


def _bad(text: str) -> HostError:
    return HostError("bad-firmware", f"the file {text}")
