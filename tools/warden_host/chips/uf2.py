"""Check a UF2 file, and copy it to the boot volume of an RP2040 or RP2350.

Source: the UF2 specification, and the RP2350 datasheet (UF2 Format Details).
"""

import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from warden_host.chips.chip import CHIPS, Board
from warden_host.errors import HostError

BLOCK = 512
_HEAD = struct.Struct("<8I")
_START = (0x0A324655, 0x9E5D5157)
_END = 0x0AB16F30
_NOT_FLASH = 0x00000001
_FAMILY_PRESENT = 0x00002000
_PAYLOAD = 476
_FLASH_AT = 0x10000000
# A block that RP2350's tools put first for its erratum E10; the boot ROM ignores it.
_ABSOLUTE = 0xE48BFF57
_INFO = "INFO_UF2.TXT"


@dataclass(frozen=True)
class Uf2:
    """data: the whole file. used: bytes of flash from its start to the last byte written."""

    data: bytes
    used: int


def read(data: bytes, board: Board) -> Uf2:
    """Check a UF2 file for this board. Raises bad-firmware, wrong-board."""
    limit = 2 * board.flash + 2 * BLOCK  # 256 bytes of flash a block
    if not data or len(data) % BLOCK or len(data) > limit:
        raise _bad(f"has {len(data)} bytes: not whole blocks, or more than the flash takes")
    count, used = 0, 0
    total = None
    for at in range(0, len(data), BLOCK):
        family, address, size, number, blocks = _block(data, at)
        if family == _ABSOLUTE and at == 0 and board.chip == "rp2350":
            continue
        if family not in board.facts.uf2_families:
            raise _wrong(family, board)
        if total is None:
            total = blocks
        if number != count or blocks != total:
            raise _bad(f"lacks the block {count}, or has it elsewhere")
        if not _FLASH_AT <= address or address + size > _FLASH_AT + board.flash:
            raise _bad(f"writes to {address:#x}, which is no flash of this board")
        count += 1
        used = max(used, address + size - _FLASH_AT)
    if not count or count != total:
        raise _bad(f"ends after {count} of {total} blocks")
    return Uf2(data, used)


def _block(data: bytes, at: int) -> tuple[int, int, int, int, int]:
    first, second, flags, address, size, number, blocks, family = _HEAD.unpack_from(data, at)
    (end,) = struct.unpack_from("<I", data, at + BLOCK - 4)
    if (first, second) != _START or end != _END:
        raise _bad(f"is no UF2 file at the byte {at}")
    if flags & _NOT_FLASH or not flags & _FAMILY_PRESENT or not 0 < size <= _PAYLOAD:
        raise _bad(f"has a block at the byte {at} that names no chip, or no flash")
    return family, address, size, number, blocks


def _wrong(family: int, board: Board) -> HostError:
    labels = [chip.label for chip in CHIPS.values() if family in chip.uf2_families]
    of = labels[0] if labels else f"the UF2 family {family:#010x}"
    return HostError(
        "wrong-board",
        f"this firmware is for {of}, and {board.name} has an {board.facts.label}",
        "download the one for this board",
    )


def _bad(text: str) -> HostError:
    return HostError("bad-firmware", f"the file {text}")


def mounted(table: Path = Path("/proc/self/mounts")) -> list[Path]:
    """Return where removable volumes may be mounted on this machine. table: Linux's list."""
    if sys.platform == "linux":
        points = [row.split(b" ")[1] for row in table.read_bytes().splitlines()]
        plain = [point.decode("unicode_escape").encode("latin-1") for point in points]
        return [Path(os.fsdecode(point)) for point in plain]
    return sorted(Path("/Volumes").glob("*"))


def find(board: Board, places: list[Path]) -> Path:
    """Return the one boot volume of this board's chip. Raises no-boot-volume, wrong-board."""
    volumes = [place for place in places if (place / _INFO).is_file()]
    right = [place for place in volumes if volume_board(place) == board.facts.volume_board]
    if len(right) == 1:
        return right[0]
    if right:
        text = f"{len(right)} boards of this kind are in their boot loaders"
        hint = "name the volume of the one that is meant"
        raise HostError("no-boot-volume", text, hint)
    if volumes:
        check_volume(volumes[0], board)
    raise HostError("no-boot-volume", "no board shows its boot volume")


def check_volume(volume: Path, board: Board) -> None:
    """Raise no-boot-volume or wrong-board unless this is the boot volume of the board's chip."""
    if not (volume / _INFO).is_file():
        raise HostError(
            "no-boot-volume",
            f"{volume} is no boot volume: it has no {_INFO}",
            "hold BOOTSEL while you plug the board in",
        )
    found = volume_board(volume)
    if found != board.facts.volume_board:
        raise HostError(
            "wrong-board",
            f"{volume} belongs to {found or 'an unknown board'}, and {board.name} has an"
            f" {board.facts.label}",
            "name the board that is plugged in",
        )


def volume_board(volume: Path) -> str:
    """Return the Board-ID of a boot volume, without one ""."""
    with open(volume / _INFO, "rb") as file:
        lines = file.read(4096).decode("ascii", "replace").splitlines()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "Board-ID":
            return value.strip()
    return ""


def copy(firmware: Uf2, volume: Path) -> None:
    """Write the file to the volume. The board restarts when it has the last block.

    The boot ROM offers nothing to read it back with, and the volume may vanish before it is
    closed. Raises flash-failed when it vanished earlier.
    """
    written = 0
    try:
        with open(volume / "firmware.uf2", "wb", buffering=0) as file:
            while written < len(firmware.data):
                written += file.write(firmware.data[written : written + 64 * BLOCK])
            os.fsync(file.fileno())
    except OSError as error:
        if written < len(firmware.data):
            raise HostError(
                "flash-failed",
                f"the volume took {written} of {len(firmware.data)} bytes: {error.strerror}",
                "plug the board in again while you hold BOOTSEL, and repeat the command",
            ) from None
