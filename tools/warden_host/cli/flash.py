"""`warden flash`: write a firmware that the user gives to a board."""

from pathlib import Path

import click
from rich.progress import Progress

from warden_host.boards import ports
from warden_host.chips import image, uf2
from warden_host.chips.chip import Board, board
from warden_host.cli import screen
from warden_host.cli.common import json_option
from warden_host.errors import HostError
from warden_host.fleet import device_tree


@click.command()
@click.argument("firmware", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--board", "name", required=True, help="The board, as `warden provision` names it.")
@click.option("--port", help="ESP32 boards: the serial port, or auto.")
@click.option(
    "--volume",
    type=click.Path(path_type=Path),
    help="RP2 boards: the boot volume's mount point. Default: the one that is mounted.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="ESP32 boards: keep the rest of the flash, with the filesystem and the vault.",
)
@json_option
def flash(
    firmware: Path, name: str, port: str | None, volume: Path | None, keep: bool, as_json: bool
) -> None:
    """Write a firmware to a board: erase, write, verify.

    FIRMWARE is MicroPython's whole image for the board: .bin for an ESP32, .uf2 for an RP2040 or
    RP2350. It is checked before anything is erased. Without --keep all of an ESP32's flash is
    erased first: a device that was provisioned there is gone.

    \b
    Examples:
      warden flash v1.28.0.bin --board ESP32_GENERIC_S3 --port /dev/ttyACM0
      warden flash RPI_PICO_W-v1.28.0.uf2 --board RPI_PICO_W
    """
    target = board(device_tree.tree(), name)
    if target.facts.port == "rp2":
        if port is not None or keep:
            raise HostError(
                "bad-argument", "this board takes a file on its boot volume", "give --volume"
            )
        place = _flash_rp2(firmware, target, volume)
        verified = False
    elif target.facts.port == "esp32":
        if port is None or volume is not None:
            raise HostError(
                "bad-argument", "this board is flashed over a serial port", "give --port"
            )
        port = ports.choose(port)
        _flash_esp(firmware, target, port, keep, as_json)
        place, verified = port, True
    else:
        raise HostError("bad-argument", f"{name} is no board that can be flashed")
    if as_json:
        screen.print_json({"ok": True, "board": name, "at": place, "verified": verified})
    elif verified:
        screen.good(f"{name} at {place}: written, verified, started")
    else:
        screen.good(
            f"{name} at {place}: written; the board checks the blocks and starts",
            "its boot loader gives nothing back to compare with",
        )


def _flash_rp2(firmware: Path, target: Board, volume: Path | None) -> str:
    checked = uf2.read(_read(firmware), target)
    if volume is None:
        volume = uf2.find(target, uf2.mounted())
    else:
        uf2.check_volume(volume, target)
    uf2.copy(checked, volume)
    return str(volume)


def _flash_esp(firmware: Path, target: Board, port: str, keep: bool, as_json: bool) -> None:
    checked = image.read(_read(firmware), target.chip, target.facts, target.flash)
    # esptool is loaded here: other boards and the --help do without.
    from warden_host.chips.flash import Esptool, write_firmware

    def report(stage: str) -> None:
        if not as_json:
            screen.show(f"  {stage}")

    with Progress(console=screen.out, transient=True, disable=as_json) as bar:
        task = bar.add_task("writing", total=len(checked.data))

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        write_firmware(Esptool(), target, checked, port, not keep, report, progress)


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(image.MAX_BYTES + 1)
    if len(data) > image.MAX_BYTES:
        raise HostError("bad-firmware", f"{path.name} is larger than any board's flash")
    return data
