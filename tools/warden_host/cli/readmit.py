"""`warden readmit`: let a device in again that a reaction of the fleet restricted."""

import click

from warden_host import control_client, jsontext, names
from warden_host.broker import connection
from warden_host.cli import orders, screen
from warden_host.cli.common import State, json_option, pass_state, timeout_option
from warden_host.devices import account_access, quarantine, rotation
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store


@click.command(short_help="Let a device in again, with new secrets.")
@click.argument("device")
@click.option("--yes", is_flag=True, help="Don't ask.")
@timeout_option(300.0)
@json_option
@pass_state
def readmit(state: State, device: str, yes: bool, timeout: float, as_json: bool) -> int:
    """Let a device in again that a reaction of the fleet quarantined or de-registered.

    It may connect, in quarantine, to get a new password and new sealing keys; when it has proved
    these, it gets its rights back. The same command goes on where it stopped. A cloned device
    can't be let in like this: its copy would get the new secrets too.

    An application, a token of one, a gateway or a device of an open room that flooded the broker
    is named by its account. It keeps its password: `warden app export` and `warden gateway export`
    give another one.

    \b
    Examples:
      warden readmit front-door
      warden readmit g:hall
      warden readmit front-door --yes --json
    """
    fleet = state.fleet()
    if ":" in device:
        return _readmit_account(fleet, device, yes, as_json)
    name = names.check_id(device, "device ID")
    with Store(fleet.database) as store:
        known = store.device(name)
        quarantine.check_readmission(known)
        reaction = known.reaction
        code = "" if reaction is None else reaction.code
        screen.confirm(f"{name} was restricted for {code}. Let it in again?", yes, as_json)
        quarantine.begin_readmission(fleet, store, name)
        control_client.call(fleet.control, {"op": "reload", "device": name})

        def show(text: str) -> None:
            if as_json:
                screen.print_json({"device": name, "stage": text})
            else:
                screen.good(text)

        show("it may connect, in quarantine")
        with_password = connection.of_record(known.policy).uses("password")
        parts = ("password", "keys") if with_password else ("keys",)
        ask = orders.ask_by_socket(fleet, name)
        if not rotation.rotate(fleet, store, name, parts, ask, show, timeout):
            raise HostError(
                "backup-due",
                "its new secrets wait for a backup, and it stays in quarantine until then",
                f"`warden backup`, then `warden readmit {name}` again",
            )
        quarantine.complete_readmission(fleet, store, name)
    control_client.call(fleet.control, {"op": "readmitted", "device": name})
    if as_json:
        screen.print_json({"ok": True, "device": name, "code": code})
    else:
        screen.good(f"{name} is in the fleet again, with new secrets")
    return 0


def _readmit_account(fleet: Fleet, account: str, yes: bool, as_json: bool) -> int:
    with Store(fleet.database) as store:
        screen.confirm(f"Let {jsontext.printable(account)} in again?", yes, as_json)
        account_access.enable(fleet, store, account)
    if as_json:
        screen.print_json({"ok": True, "account": account})
    else:
        screen.good(f"{account} may connect again")
    return 0
