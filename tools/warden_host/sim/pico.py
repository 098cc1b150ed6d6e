"""Run a device on an emulated Pico W, with MicroPython's own firmware: rp2040py, an extra.

The board's flash is a file beside the folders of simulated devices, and what the board has
written is in it a second later: an authority refuses a device that comes back with an older one.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.sim import simulated
from warden_host.sim.pico_console import Console
from warden_host.stopping import Stop, run_async

if TYPE_CHECKING:
    from warden_host.sim.pico_board import Board, Flash

_UF2_MAGIC = b"UF2\n"
_UF2_SECOND = bytes.fromhex("57515d9e")
_RP2040 = bytes.fromhex("56ff8be4")  # family 0xE48BFF56, at 28 of a block
_BLOCK = 512
_MOST_FIRMWARE = 8 << 20
_KEEP_S = 1.0


def check(firmware: Path) -> None:
    """Raise emulator-missing, and bad-firmware for what is no .uf2 of an RP2040."""
    if find_spec("rp2040py") is None:
        raise HostError("emulator-missing", "rp2040py, which emulates a Pico W, is not installed")
    try:
        size = firmware.stat().st_size
        with firmware.open("rb") as file:
            head = file.read(_BLOCK)
    except OSError as error:
        raise HostError("bad-firmware", f"{firmware} can't be read: {error.strerror}") from None
    right = head[:4] == _UF2_MAGIC and head[4:8] == _UF2_SECOND and head[28:32] == _RP2040
    if not right or size % _BLOCK or size > _MOST_FIRMWARE:
        raise HostError("bad-firmware", f"{firmware} is no .uf2 file for an RP2040")


def run(
    fleet: Fleet, device: str, firmware: Path, show: Callable[[str], None], stop: Stop
) -> None:
    """Run the board until a stop.

    show: takes each line of its console, and lines of ours that begin with "--".
    Raises: emulator-missing, bad-firmware, device-running, filesystem.
    """
    home = fleet.simulated(device)
    check(firmware)
    home.parent.mkdir(mode=0o700, exist_ok=True)
    with simulated.alone(home):
        run_async(_run(firmware, home.with_name(f"{device}.flash"), show), stop)


async def _run(firmware: Path, image: Path, show: Callable[[str], None]) -> None:
    from warden_host.sim import pico_board  # rp2040py may not be installed

    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def failed(error: Exception) -> None:
        if not ended.done():
            ended.set_exception(HostError("internal-error", f"the emulator failed: {error!r}"))

    board = pico_board.Board(firmware, image if image.is_file() else None, failed)
    flash = pico_board.Flash(board.device)
    console = Console(show)
    usb = pico_board.Usb(board.device, console.take)

    def on_reset(_ms: float, _cause: str) -> None:
        console.reset()
        usb.plug_in()

    board.on_reset.append(on_reset)
    keeping = asyncio.create_task(_keep(board, flash, image))
    try:
        await board.start()
        show(f"-- its serial port is {usb.open_port()} --")
        await asyncio.wait([ended, keeping], return_when=asyncio.FIRST_COMPLETED)
        for work in (ended, keeping):
            if work.done():
                work.result()
    finally:
        board.stop()
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, HostError):
            await keeping
        _save(board, image)


async def _keep(board: "Board", flash: "Flash", image: Path) -> None:
    """Write the flash to its file whenever the board has changed it."""
    kept = 0
    while True:
        await asyncio.sleep(_KEEP_S)
        if flash.operations != kept:
            kept = flash.operations
            _save(board, image)


def _save(board: "Board", image: Path) -> None:
    """Replace the file at once. Raises filesystem."""
    new = image.with_name(image.name + "~")
    try:
        new.touch(mode=0o600)
        board.device.dump_flash_image(new)
        os.replace(new, image)
    except OSError as error:
        raise HostError("filesystem", f"{image} can't be written: {error.strerror}") from None
