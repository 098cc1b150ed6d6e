"""Write a firmware to a board: over a serial port to an ESP, as a UF2 file to an RP2."""

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import esptool  # type: ignore[import-untyped]

from warden_host.chips.chip import Board
from warden_host.chips.espressif import guarded
from warden_host.chips.image import Firmware
from warden_host.errors import HostError

_AGAIN = "give the same command again: it writes the whole firmware anew"
_CONNECT = (
    "put the board into its boot loader (hold BOOT, press RESET), and look at the cable and at "
    "the rights to the port"
)


class Loader(Protocol):
    """What flashing needs of esptool: `Esptool`."""

    def connect(self, port: str) -> str:
        """Connect and return the chip's name, such as ESP32-S3."""

    def protection(self) -> str:
        """Return what keeps the chip from starting any firmware, such as secure boot, or ""."""

    def size(self) -> int:
        """Return the bytes of flash that the chip has, 0 if it does not say."""

    def write(self, offset: int, data: bytes, erase: bool) -> None:
        """Erase, write."""

    def verify(self, offset: int, data: bytes) -> None:
        """Compare what the flash holds."""

    def reset(self) -> None:
        """Start what was written, and release the port."""

    def close(self) -> None:
        """Release the port."""


class Esptool:
    """esptool's own functions, with its stub where the chip takes one."""

    def __init__(self) -> None:
        self._esp: Any = None
        self._port = contextlib.ExitStack()
        self._found = ""

    def connect(self, port: str) -> str:
        """Connect to the chip at a serial port."""
        self._esp = self._port.enter_context(esptool.detect_chip(port))
        self._found = self._protection()
        name = str(self._esp.CHIP_NAME)
        if not self._found:
            self._esp = esptool.run_stub(self._esp)
            esptool.attach_flash(self._esp)
        return name

    def protection(self) -> str:
        """Return the chip's protection, read before the stub runs: its fuses say it."""
        return self._found

    def _protection(self) -> str:
        if self._esp.secure_download_mode:
            return "secure download mode"
        if self._esp.get_flash_encryption_enabled():
            return "flash encryption"
        return "secure boot" if self._esp.get_secure_boot_enabled() else ""

    def size(self) -> int:
        """Return the bytes of flash, which the flash chip's ID tells."""
        found = esptool.detect_flash_size(self._esp)
        return int(esptool.flash_size_bytes(found) or 0) if found else 0

    def write(self, offset: int, data: bytes, erase: bool) -> None:
        """Write, with the header's parameters as they are: the signature covers them."""
        esptool.write_flash(self._esp, [(offset, data)], erase_all=erase)

    def verify(self, offset: int, data: bytes) -> None:
        """Compare the digest of what the flash holds."""
        esptool.verify_flash(self._esp, [(offset, data)])

    def reset(self) -> None:
        """Start the firmware."""
        esptool.reset_chip(self._esp, "hard-reset")

    def close(self) -> None:
        """Release the port."""
        self._port.close()


def write_firmware(
    loader: Loader,
    board: Board,
    firmware: Firmware,
    port: str,
    erase: bool,
    report: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> None:
    """Erase the flash, write the firmware, verify it and start it.

    erase: the whole flash, with the filesystem and the vault of a device that was there.
    report: called with each stage: connected, written, verified. progress: bytes done, bytes.
    Raises unreachable, wrong-board, not-applicable, flash-failed.
    """
    try:
        with guarded("unreachable", _CONNECT):
            found = loader.connect(port)
        size = _check_chip(loader, board, firmware, port, found)
        report(f"connected: {found}, {size >> 20} MB of flash")
        at = board.facts.firmware_at
        with guarded("flash-failed", _AGAIN, progress):
            loader.write(at, firmware.data, erase)
        report("written")
        with guarded("flash-failed", _AGAIN):
            loader.verify(at, firmware.data)
        report("verified")
        with guarded("flash-failed", "press RESET: the firmware is written and verified"):
            loader.reset()
    finally:
        loader.close()


def _check_chip(loader: Loader, board: Board, firmware: Firmware, port: str, found: str) -> int:
    """Return the bytes of the chip's flash; start a chip again that is refused.

    found: the chip's name. Raises unreachable, wrong-board, not-applicable.
    """
    try:
        if found.lower().replace("-", "") != board.chip:
            raise HostError(
                "wrong-board",
                f"the chip at {port} is an {found}, and {board.name} has an {board.facts.label}",
                "name the board that is at this port",
            )
        if protection := loader.protection():
            raise HostError(
                "not-applicable",
                f"this chip has {protection} on: it would not start after this",
                "its firmware changes by updates (docs/update.md), or by esptool in expert hands",
            )
        with guarded("unreachable", _CONNECT):
            size = loader.size()
        end = board.facts.firmware_at + len(firmware.data)
        end = max([end, *(one.offset + one.size for one in firmware.partitions)])
        if size and end > size:
            raise HostError(
                "wrong-board",
                f"the firmware wants {end >> 20} MB of flash, and this chip has {size >> 20} MB",
                "choose a firmware for a smaller flash",
            )
        return size
    except HostError:
        with contextlib.suppress(Exception):  # its RESET button does it as well
            loader.reset()
        raise
