"""`warden wifi`: show and change the Wi-Fi networks of a device, over the link."""

from typing import Any

import click

from warden_host import control_client, jsontext, names
from warden_host.cli import common, screen, secrets_input
from warden_host.cli.common import State, json_option, pass_state, timeout_option
from warden_host.devices import networks
from warden_host.devices.bundle import Network
from warden_host.devices.trial import Ask
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

_MAX_PASSWORD = 64


@click.command(short_help="Show or change a device's Wi-Fi networks.")
@click.argument("device")
@click.option(
    "--add", metavar="SSID", help="A new network, or a new password of one; asks for it."
)
@click.option("--open", "is_open", is_flag=True, help="The network has no password.")
@click.option(
    "--password-file",
    metavar="FILE",
    help="Read the password from a file (mode 600), or from standard input: -. Default: ask.",
)
@click.option("--remove", metavar="SSID", multiple=True, help="Forget a network. Repeatable.")
@timeout_option(600.0)
@json_option
@pass_state
def wifi(
    state: State,
    device: str,
    add: str | None,
    is_open: bool,
    password_file: str | None,
    remove: tuple[str, ...],
    timeout: float,
    as_json: bool,
) -> int:
    """Show the names of a device's Wi-Fi networks, or change them.

    The device keeps its old networks until its session came up through the new one. After three
    tries without one it goes back to them.

    \b
    Examples:
      warden wifi front-door
      warden wifi front-door --add workshop
      warden wifi front-door --add workshop --remove garden
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    if add is None and (is_open or password_file is not None):
        raise HostError("bad-argument", "a password goes with --add SSID")
    if is_open and password_file is not None:
        raise HostError("bad-argument", "--open and --password-file exclude each other")
    _check(fleet, device)
    ask = _ask_by_socket(fleet, device)
    if add is None and not remove:
        _print_state(device, networks.state(device, ask), as_json)
        return 0
    new = None
    if add is not None:
        password = ""
        if not is_open:
            password = _password(password_file)
        new = Network(add, password)

    show_stage = common.stage_printer(device, as_json)

    result = networks.change(device, ask, new, remove, show_stage, timeout)
    if as_json:
        screen.print_json({"ok": True, "device": device, "networks": result})
    else:
        screen.good(f"{device} is connected by its new networks", "networks: " + _shown(result))
    return 0


def _password(file: str | None) -> str:
    """Read the password. Raises bad-argument for none, and for bytes that are no UTF-8."""
    data = secrets_input.secret(
        file, "Wi-Fi password", "--password-file", _MAX_PASSWORD, new=False
    )
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise HostError("bad-argument", "the password is not UTF-8") from None
    if not text:
        raise HostError("bad-argument", "the password is empty", "--open names an open network")
    return text


def _check(fleet: Fleet, device: str) -> None:
    """Raise device-unknown; not-applicable for a device in plain mode."""
    with Store(fleet.database) as store:
        if store.device(device).mode != "sealed":
            raise HostError(
                "not-applicable",
                f"{device} is plain: only its owner at the bench may give it new networks",
                "provision it again",
            )


def _ask_by_socket(fleet: Fleet, device: str) -> Ask:
    def ask(change: dict[str, Any] | None) -> dict[str, Any]:
        request = {"op": "wifi", "device": device, "timeout": 10}
        if change is not None:
            request["change"] = change
        return control_client.call(fleet.control, request, 60)

    return ask


def _print_state(device: str, found: networks.State, as_json: bool) -> None:
    if as_json:
        screen.print_json(
            {"ok": True, "device": device, "networks": found.networks, "pending": found.pending}
        )
        return
    screen.show(f"networks of {device}: {_shown(found.networks)}")
    if found.pending is not None:
        screen.show(f"it tries a change: {_shown(found.pending)}")
    elif found.id > found.proved:
        screen.show("its last change gave no connection: it went back to these")


def _shown(ssids: list[str]) -> str:
    return ", ".join(jsontext.printable(ssid) for ssid in ssids) or "none"
