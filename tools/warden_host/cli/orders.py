"""`warden rotate`, `wipe` and `revoke`: orders that only the authority gives."""

from typing import Any

import click

from warden_host import names
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.devices import revocation, rotation
from warden_host.errors import HostError
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.service import control
from warden_host.store.store import Store


@click.command(short_help="Give a device new secrets, keys or pins.")
@click.argument("device")
@click.option("--password", is_flag=True, help="A new broker password.")
@click.option("--keys", is_flag=True, help="New sealing keys of all its applications.")
@click.option("--pins", is_flag=True, help="The current CA and pins of the fleet.")
@click.option(
    "--release-keys",
    is_flag=True,
    help="The current release keys of the fleet; they apply at once.",
)
@click.option(
    "--new-backup", is_flag=True, help="Draw a new backup key for the server first (with --pins)."
)
@click.option(
    "--deadline",
    type=int,
    metavar="S",
    help="After a compromise: drop the old ones after this many seconds, proven or not.",
)
@click.option("--timeout", default=120.0, show_default=True, help="How long to wait, seconds.")
@json_option
@pass_state
def rotate(
    state: State,
    device: str,
    password: bool,
    keys: bool,
    pins: bool,
    release_keys: bool,
    new_backup: bool,
    deadline: int | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Give a device new secrets; the old ones stay valid until the new ones are proven.

    An interrupted rotation continues first; parts asked for now that it does not cover follow.

    \b
    Examples:
      warden rotate front-door --password --keys
      warden rotate front-door --pins --new-backup
      warden rotate front-door --keys --deadline 3600
      warden rotate front-door --release-keys
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    wanted = {"password": password, "keys": keys, "pins": pins, "release": release_keys}

    def show_stage(text: str) -> None:
        if as_json:
            screen.print_json({"device": device, "stage": text})
        else:
            screen.good(text)

    with Store(fleet.database) as store:
        if new_backup and store.rotation(device) is None:
            if not pins:
                raise HostError("bad-argument", "--new-backup goes with --pins")
            pki.renew_backup(fleet.keys)
        parts = tuple(part for part in rotation.PARTS if wanted[part])
        ask = _ask_by_socket(fleet, device)
        rotation.rotate(fleet, store, device, parts, ask, show_stage, timeout, deadline)
    if as_json:
        screen.print_json({"ok": True, "device": device})
    return 0


def _ask_by_socket(fleet: Fleet, device: str) -> rotation.Ask:
    def ask(command: str, _: dict[str, Any]) -> dict[str, Any]:
        # The body stays out of the control socket: `serve` reads it from the store.
        return control.call(fleet.control, {"op": command, "device": device, "timeout": 10}, 60)

    return ask


@click.command(short_help="Destroy a device's secrets.")
@click.argument("device")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@pass_state
def wipe(state: State, device: str, yes: bool, as_json: bool) -> int:
    """Destroy a device's secrets: the device acknowledges, wipes its vault and leaves the fleet.

    A device that is offline is wiped on its next contact, however late.

    \b
    Examples:
      warden wipe front-door
      warden wipe front-door --yes --json
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    with Store(fleet.database) as store:
        store.device(device)
        if not yes:
            click.confirm(
                f"{device} loses its secrets and must be provisioned again. Wipe it?", abort=True
            )
        if revocation.order_ending(store, device, revoke=False, wipe=True).revoked:
            revocation.revoke_access(fleet, store, device)  # it was refused until now
    return _notify_and_print(fleet, device, as_json, "")


@click.command(short_help="Cut a device off, at once.")
@click.argument("device")
@click.option(
    "--wipe",
    "also_wipe",
    is_flag=True,
    help="Let it connect once more, only to be wiped.",
)
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@pass_state
def revoke(state: State, device: str, also_wipe: bool, yes: bool, as_json: bool) -> int:
    """Cut a device off: the broker disconnects it at once, and the authority ignores it.

    `warden provision DEVICE --again` restores it, with all-new secrets.

    \b
    Examples:
      warden revoke front-door
      warden revoke front-door --wipe
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    with Store(fleet.database) as store:
        store.device(device)
        if not yes:
            click.confirm(
                f"{device} loses its access now and must be provisioned again. Revoke it?",
                abort=True,
            )
        revocation.order_ending(store, device, revoke=True, wipe=also_wipe)
        if not revocation.revoke_access(fleet, store, device):
            raise HostError(
                "not-applicable",
                f"{device} was provisioned again or removed in the meantime",
                "look at `warden devices`; repeat the command if you mean the new device",
            )
    return _notify_and_print(fleet, device, as_json, f"{device} is cut off")


def _notify_and_print(fleet: Fleet, device: str, as_json: bool, done: str) -> int:
    """Notify a running authority, and print the result.

    done: what is true already, whatever the authority answers; "" for nothing.
    """
    if done and not as_json:
        screen.good(done)
    unconfirmed = ""
    answer: dict[str, Any] = {"wiped": False}
    try:
        answer = control.call(fleet.control, {"op": "end", "device": device}, 60)
    except HostError as error:
        if error.code != "not-serving":
            # A refused wipe is an error; a device that is cut off needs no confirmation.
            if not done or error.code == "command-refused":
                raise
            unconfirmed = error.code
    wiped = answer.get("wiped") is True
    with Store(fleet.database) as store:
        ending = store.ending(device)
    waits = ending is not None and ending.wipe
    if as_json:
        result = {"ok": True, "device": device, "revoked": bool(done), "wiped": wiped}
        extra = {"unconfirmed": unconfirmed} if unconfirmed else {}
        screen.print_json(result | {"waits": waits} | extra)
        return 0
    if unconfirmed:
        screen.show(
            f"the running authority did not confirm it ({unconfirmed}): it reads the order "
            "when it starts the next time, and the broker carries nothing of the device until then"
        )
    if wiped:
        screen.good(f"{device} is wiped, and gone from the fleet")
    elif waits:
        screen.good(f"{device} is offline: it is wiped on its next contact")
    return 0
