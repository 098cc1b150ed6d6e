"""What the authority alone may order: `warden rotate` and `warden wipe`."""

from typing import Any

import click

from warden_host import control, dynsec, names, pki, registry, rotation, screen
from warden_host.cli_common import State, json_option, pass_state, tell_running
from warden_host.errors import HostError
from warden_host.fleet import Fleet
from warden_host.store import Store


def add_to(group: click.Group) -> None:
    for command in (rotate, wipe):
        group.add_command(command)


@click.command()
@click.argument("device")
@click.option("--password", is_flag=True, help="A new broker password.")
@click.option("--keys", is_flag=True, help="New sealing keys of all its applications.")
@click.option("--pins", is_flag=True, help="The fleet's present CA and pins.")
@click.option(
    "--new-backup", is_flag=True, help="Draw a new backup key for the server first (with --pins)."
)
@click.option(
    "--deadline",
    type=int,
    metavar="S",
    help="After a compromise: the old ones are dropped after so many seconds, proven or not.",
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
    new_backup: bool,
    deadline: int | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Give a device new secrets; the old ones are valid until the new ones proved themselves.

    A rotation that was interrupted is taken up where it stopped.

    \b
    Examples:
      warden rotate D1 --password --keys
      warden rotate D1 --pins --new-backup
      warden rotate D1 --keys --deadline 3600
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    wanted = {"password": password, "keys": keys, "pins": pins}

    def tell(text: str) -> None:
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
        begun = rotation.begin(fleet, store, device, parts, deadline)
        rotation.finish(fleet, store, begun, _asking(fleet, device), tell, timeout)
    if as_json:
        screen.print_json({"ok": True, "device": device})
    return 0


def _asking(fleet: Fleet, device: str) -> rotation.Ask:
    def ask(command: str, _: dict[str, Any]) -> dict[str, Any]:
        # The body stays out of the control socket: `serve` reads it from the store.
        return control.call(fleet.control, {"op": command, "device": device, "timeout": 10}, 60)

    return ask


@click.command()
@click.argument("device")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@pass_state
def wipe(state: State, device: str, yes: bool, as_json: bool) -> int:
    """Destroy a device's secrets: it acknowledges, wipes its vault and is not provisioned any more.

    \b
    Examples:
      warden wipe D1
      warden wipe D1 --yes --json
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    with Store(fleet.database) as store:
        known = store.device(device)
        if not yes:
            click.confirm(f"{device} will have to be provisioned again. Wipe it?", abort=True)
        answer = control.call(fleet.control, {"op": "wipe", "device": device, "timeout": 10}, 60)
        if answer.get("ok") is not True:
            raise HostError(
                "command-refused",
                f"{device} refused to be wiped: {answer.get('reply', {}).get('error', '')}",
            )
        # Its account goes once it has answered: before that, nothing could tell it.
        account = dynsec.device_account(known.type, device, "")
        with registry.opened(fleet) as accounts, store.transaction():
            store.remove_device(device)
            accounts.remove(account.username, account.role)
    tell_running(fleet, device)
    if as_json:
        screen.print_json({"ok": True, "device": device})
    else:
        screen.good(f"{device} is wiped, and gone from the fleet")
    return 0
