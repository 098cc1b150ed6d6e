"""Facts about the chips of the boards: what the boot ROM loads, and from where.

Sources: ESP-IDF's programming guide (Application Startup Flow), the RP2040 and RP2350 datasheets
(Bootrom, UF2 format).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from warden_host.errors import HostError
from warden_host.fleet.device_tree import Tree

# How far the project has run a board itself, as board.json says it.
STATES = ("simulated", "emulated", "experimental")


@dataclass(frozen=True)
class Chip:
    """label: what its maker calls it. port: MicroPython's port. architecture: of `.mpy` files."""

    label: str
    port: str
    architecture: str
    image_id: int = -1  # ESP: the chip's number in the header of an image
    firmware_at: int = 0  # ESP: offset of the bootloader in flash
    uf2_families: frozenset[int] = frozenset()  # RP2: families that this chip's boot ROM takes
    volume_board: str = ""  # RP2: Board-ID in the INFO_UF2.TXT of its boot volume


CHIPS = {
    "esp32": Chip("ESP32", "esp32", "xtensawin", 0, 0x1000),
    "esp32s2": Chip("ESP32-S2", "esp32", "xtensawin", 2, 0x1000),
    "esp32s3": Chip("ESP32-S3", "esp32", "xtensawin", 9),
    "esp32c3": Chip("ESP32-C3", "esp32", "rv32imc", 5),
    "esp32c6": Chip("ESP32-C6", "esp32", "rv32imc", 13),
    "rp2040": Chip(
        "RP2040", "rp2", "armv6m", uf2_families=frozenset({0xE48BFF56}), volume_board="RPI-RP2"
    ),
    # Arm in secure mode, and RISC-V.
    "rp2350": Chip(
        "RP2350",
        "rp2",
        "armv7emsp",
        uf2_families=frozenset({0xE48BFF59, 0xE48BFF5A}),
        volume_board="RP2350",
    ),
    "host": Chip("this machine", "unix", "x64"),
}


@dataclass(frozen=True)
class Board:
    """A board's hardware, from boards/NAME/board.json. flash: bytes, 0 where there is none."""

    name: str
    chip: str
    flash: int
    state: str

    @property
    def facts(self) -> Chip:
        """Return the facts about the board's chip."""
        return CHIPS[self.chip]


def board(tree: Tree, name: str) -> Board:
    """Return a board's hardware. Raises bad-argument for an unknown board, config-malformed."""
    return read_board(tree.board(name))


def read_board(folder: Path) -> Board:
    """Return the hardware that a board's folder describes. Raises config-malformed."""
    try:
        data = json.loads((folder / "board.json").read_bytes())
        chip, flash_mb, state = data.pop("chip"), data.pop("flash_mb"), data.pop("state")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise _malformed(folder, "needs chip, flash_mb and state") from None
    if data:
        raise _malformed(folder, f"holds {sorted(data)[0]!r}, which means nothing")
    if chip not in tuple(CHIPS) or state not in STATES:
        raise _malformed(folder, f"names the chip {chip!r} in the state {state!r}")
    if type(flash_mb) is not int or not 0 <= flash_mb <= 64:
        raise _malformed(folder, "flash_mb is megabytes, 0 to 64")
    return Board(folder.name, chip, flash_mb << 20, state)


def _malformed(folder: Path, text: str) -> HostError:
    return HostError(
        "config-malformed", f"board.json of {folder.name} {text}", "put that board.json right"
    )
