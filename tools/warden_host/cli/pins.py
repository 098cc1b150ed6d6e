"""`warden pins`: pins in a signed file, for a device that no server of its pins is left for."""

import time
from pathlib import Path
from typing import Any

import click
from warden_client import secretfile

from warden_host import jsontext, names
from warden_host.boards import ports
from warden_host.boards.connection import Board
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.cli.keys import passphrase_option, read_passphrase
from warden_host.devices import pins as pins_file
from warden_host.errors import HostError
from warden_host.release import signing_key
from warden_host.service import clock_guard
from warden_host.store.store import Store

live_ends_option = click.option(
    "--live-pin-ends",
    type=int,
    metavar="S",
    help="After a compromise: refuse the server's present key from then on, in seconds.",
)


@click.group("pins", short_help="Carry new pins to a device that can't connect.")
def pins() -> None:
    """Carry new pins, in a file that a release key signs, to a device that can't connect.

    A device that is connected gets its pins by `warden rotate DEVICE --pins`.

    \b
    Examples:
      warden pins export pins.cose
      warden pins show pins.cose
      warden pins apply front-door pins.cose --port /dev/ttyACM0
    """


@pins.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", "key_name", default="", metavar="NAME", help="The release key that signs.")
@live_ends_option
@passphrase_option
@click.option(
    "--accept-clock", is_flag=True, help="This host's clock is right, though it has jumped."
)
@json_option
@pass_state
def export(
    state: State,
    file: Path,
    key_name: str,
    live_pin_ends: int | None,
    passphrase_file: str | None,
    accept_clock: bool,
    as_json: bool,
) -> None:
    """Write the fleet's present CA and pins into a file, signed by a release key.

    It is for all devices of the fleet that know this key, and holds no secret. A device takes it
    once, and only if it was made after the last time that the authority reached the device, and
    after the pins that it has: so the file is made by a clock that follows from the time last
    served, or not at all.

    \b
    Examples:
      warden pins export pins.cose
      warden pins export pins.cose --key backup --live-pin-ends 86400
    """
    fleet = state.fleet()
    pins_file.check_end(live_pin_ends)
    key = signing_key.find(fleet, key_name)
    if not accept_clock:
        with Store(fleet.database) as store:
            clock_guard.check(store)
    private = signing_key.open_private(fleet, key, read_passphrase(passphrase_file, new=False))
    with Store(fleet.database) as store:
        data = pins_file.sign(fleet, store, private, live_pin_ends)
    secretfile.write(file, data)
    _show(pins_file.read(data, [key]), as_json)


@pins.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@pass_state
def show(state: State, file: Path, as_json: bool) -> None:
    """Show what a file with pins says, and which release key of this fleet signed it.

    \b
    Example:
      warden pins show pins.cose
    """
    _show(_read(state, file)[1], as_json)


@pins.command("apply")
@click.argument("device")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--port", metavar="PORT", help="The board's serial port, with its console open.")
@json_option
@pass_state
def apply(state: State, device: str, file: Path, port: str | None, as_json: bool) -> None:
    """Put a file with pins onto a device, which takes it at its next refused connection.

    Without --port: onto a device of `warden run`. A board whose console is closed takes the file
    from an SD card that its program mounts as /sd, under the name pins.cose.

    \b
    Examples:
      warden pins apply front-door pins.cose
      warden pins apply front-door pins.cose --port /dev/ttyACM0
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    data, record = _read(state, file)
    with Store(fleet.database) as store:
        store.device(device)
        ours = record["vendor"] == store.vendor().hex()
    if record["signed_by"] is None or not ours:
        raise HostError(
            "release-key",
            "no release key of this fleet signed these pins: the device would refuse them",
            "`warden pins export` makes a file that it takes",
        )
    if port is not None:
        with Board(ports.choose(port)) as board:
            for _ in board.write("/" + pins_file.FILE, data):
                pass
            board.reset(reopen=False)
    else:
        root = fleet.simulated(device) / "root"
        if not root.is_dir():
            raise HostError(
                "not-applicable", f"{device} is no device of `warden run`", "name its port"
            )
        secretfile.write(root / pins_file.FILE, data)
    if as_json:
        screen.print_json({"ok": True, "device": device, "made": record["made"]})
    else:
        screen.good(f"{device} takes these pins when its server is refused the next time")


def _read(state: State, file: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        with file.open("rb") as opened:
            data = opened.read(pins_file.MAX_FILE + 1)
    except OSError as error:
        raise HostError("pins-malformed", f"{file.name}: {error.strerror}") from None
    return data, pins_file.read(data, signing_key.listed(state.fleet()))


def _show(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.print_json({"ok": True} | record)
        return
    signer = record["signed_by"] or "NO RELEASE KEY OF THIS FLEET"
    screen.show(f"made {screen.ago(record['made'])}, signed by {jsontext.printable(signer)}")
    for one in record["pins"]:
        ends = ""
        if one["ends"] is not None:
            ends = time.strftime("  until %Y-%m-%d %H:%M UTC", time.gmtime(one["ends"]))
        screen.show(f"  {one['pin']}{ends}")
