"""`warden run`: run a simulated device on this machine."""

import click
from rich.text import Text

from warden_host.cli import pin, screen
from warden_host.cli.common import State, interruptible, json_option, pass_state
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.sim import keypad, simulated
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
@json_option
@pass_state
def run(
    state: State, device: str, heapsize: str, once: bool, pin_file: str | None, as_json: bool
) -> int:
    """Start a simulated device: the real firmware on the unix port.

    \b
    Examples:
      warden run front-door
      warden run front-door --heapsize 128k --once

    \b
    A device that asks for a code shows its keypad and display; its keys can be piped in as well:
      (sleep 5; echo '123456#') | warden run front-door
    """
    fleet = state.fleet()
    home = fleet.simulated(device)
    if heapsize and not heapsize.rstrip("kKmM").isdigit():
        raise HostError("bad-argument", "--heapsize is a number with k or m, such as 128k")

    simulated.check(home)
    with Store(fleet.database) as store:
        known = store.find(device)
    gated = known is not None and policy.gate(known.policy) is not None
    typed = pin.read(home / "root" / "lib" / "board.py", pin_file, new=False)

    def show(text: str) -> None:
        if shown(text):
            return
        if as_json:
            screen.print_json({"device": device, "line": text.rstrip()})
            return
        line = Text.assemble((f"{device} ", "bold blue"), text)
        line.rstrip()
        screen.show(line)

    with interruptible(as_json), keypad.open_keypad(gated, as_json) as (keyboard, shown):
        return simulated.run(home, heapsize, once, show, typed, keyboard)
    return 0
