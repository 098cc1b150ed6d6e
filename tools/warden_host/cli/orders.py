"""`warden rotate`, `wipe` and `revoke`: orders that only the authority gives."""

from typing import Any

import click

from warden_host import control_client, names
from warden_host.cli import ca_passphrase, common, many, screen, targets
from warden_host.cli.common import (
    State,
    certificate_reload,
    json_option,
    pass_state,
    timeout_option,
)
from warden_host.cli.pins import live_ends_option
from warden_host.cli.runner import Order
from warden_host.cli.targets import Targets
from warden_host.devices import certificates, revocation, rotation
from warden_host.errors import HostError
from warden_host.fleet import client_pki, pki
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Device, Store


@click.command(short_help="Give a device new secrets, keys or pins.")
@click.argument("device", required=False)
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
@live_ends_option
@timeout_option(120.0)
@targets.options
@json_option
@pass_state
def rotate(
    state: State,
    device: str | None,
    password: bool,
    keys: bool,
    pins: bool,
    release_keys: bool,
    new_backup: bool,
    deadline: int | None,
    live_pin_ends: int | None,
    timeout: float,
    targets: Targets,
    as_json: bool,
) -> int:
    """Give a device new secrets; the old ones stay valid until the new ones are proven.

    Where the fleet has backups, a new password and new keys wait until one of them has both; the
    same command continues then. An interrupted rotation continues first; parts asked for now that
    it does not cover follow.

    \b
    Examples:
      warden rotate front-door --password --keys
      warden rotate front-door --pins --new-backup
      warden rotate front-door --keys --deadline 3600
      warden rotate front-door --pins --live-pin-ends 86400
      warden rotate --group ground-floor --release-keys
      warden rotate --all --keys --wave 5%,100% --max-failures 2
    """
    several = targets.many(device)
    fleet = state.fleet()
    wanted = {"password": password, "keys": keys, "pins": pins, "release": release_keys}
    parts = tuple(part for part in rotation.PARTS if wanted[part])
    if new_backup and not pins:
        raise HostError("bad-argument", "--new-backup goes with --pins")
    if live_pin_ends is not None and not pins:
        raise HostError("bad-argument", "--live-pin-ends goes with --pins")
    if several:
        if not parts:
            raise HostError("bad-argument", "name what many devices get, such as --keys")
        if new_backup and not targets.rules.resume:
            pki.renew_backup(fleet.keys)

        def act(one: str) -> dict[str, Any]:
            with Store(fleet.database) as store:
                ask = ask_by_socket(fleet, one)
                done = rotation.rotate(
                    fleet, store, one, parts, ask, _quietly, timeout, deadline, live_pin_ends
                )
            return {} if done else {"waits": "for a backup"}

        words = ["rotate", *parts, deadline, live_pin_ends]
        return many.run(fleet, targets, Order(words, act), as_json)
    name = names.check_id(device or "", "device ID")

    show_stage = common.stage_printer(name, as_json)

    with Store(fleet.database) as store:
        if new_backup and store.rotation(name) is None:
            pki.renew_backup(fleet.keys)
        ask = ask_by_socket(fleet, name)
        done = rotation.rotate(
            fleet, store, name, parts, ask, show_stage, timeout, deadline, live_pin_ends
        )
    if as_json:
        screen.print_json({"ok": True, "device": name, "done": done})
    elif not done:
        screen.good("make a backup, `warden backup`, and give the same command again")
    return 0


def _quietly(_: object) -> None:
    """Show no stages: of many devices, each has one line."""


def ask_by_socket(fleet: Fleet, device: str) -> rotation.Ask:
    """Return a function that gives the device an order through a running `serve`."""

    def ask(command: str, _: dict[str, Any]) -> dict[str, Any]:
        # The body stays out of the control socket: `serve` reads it from the store.
        return control_client.call(
            fleet.control, {"op": command, "device": device, "timeout": 10}, 60
        )

    return ask


@click.command(short_help="Destroy a device's secrets.")
@click.argument("device", required=False)
@click.option("--yes", is_flag=True, help="Don't ask.")
@targets.options
@json_option
@pass_state
def wipe(state: State, device: str | None, yes: bool, targets: Targets, as_json: bool) -> int:
    """Destroy a device's secrets: the device acknowledges, wipes its vault and leaves the fleet.

    A device that is offline is wiped on its next contact, however late.

    \b
    Examples:
      warden wipe front-door
      warden wipe front-door --yes --json
      warden wipe --file returned.txt
    """
    several = targets.many(device)
    fleet = state.fleet()
    if several:

        def act(one: str) -> dict[str, Any]:
            _order_wipe(fleet, one)
            return _end(fleet, one, cut_off=False)

        def fits(known: Device) -> str:
            return "to be wiped already" if known.ending and known.ending.wipe else ""

        question = "{count} devices lose their secrets and must be provisioned again. Wipe them?"
        return many.run(fleet, targets, Order(["wipe"], act, fits), as_json, question, yes)
    name = names.check_id(device or "", "device ID")
    with Store(fleet.database) as store:
        store.device(name)
    question = f"{name} loses its secrets and must be provisioned again. Wipe it?"
    screen.confirm(question, yes, as_json)
    _order_wipe(fleet, name)
    _print_end(_end(fleet, name, cut_off=False), as_json)
    return 0


def _order_wipe(fleet: Fleet, device: str) -> None:
    with Store(fleet.database) as store:
        if revocation.order_ending(store, device, revoke=False, wipe=True).revoked:
            revocation.revoke_access(fleet, store, device)  # it was refused until now


@click.command(short_help="Cut a device off, at once.")
@click.argument("device", required=False)
@click.option(
    "--wipe",
    "also_wipe",
    is_flag=True,
    help="Let it connect once more, only to be wiped.",
)
@click.option("--yes", is_flag=True, help="Don't ask.")
@ca_passphrase.option
@targets.options
@json_option
@pass_state
def revoke(
    state: State,
    device: str | None,
    also_wipe: bool,
    yes: bool,
    passphrase_file: str | None,
    targets: Targets,
    as_json: bool,
) -> int:
    """Cut a device off: the broker disconnects it at once, and the authority ignores it.

    `warden provision DEVICE --again` restores it, with all-new secrets.

    \b
    Examples:
      warden revoke front-door
      warden revoke front-door --wipe
      warden revoke --group stolen --wipe
    """
    several = targets.many(device)
    fleet = state.fleet()
    if several:

        def act(one: str) -> dict[str, Any]:
            refusal = _cut_off(fleet, one, also_wipe)
            result = _end(fleet, one, cut_off=True)
            if refusal is not None:
                raise refusal
            return result

        def fits(known: Device) -> str:
            done = known.ending and known.ending.revoked and known.ending.wipe >= also_wipe
            return "revoked already" if done else ""

        def finish() -> None:
            _list_certificates(fleet, passphrase_file, as_json)

        question = "{count} devices lose their access now. Revoke them?"
        order = Order(["revoke", also_wipe], act, fits)
        return many.run(fleet, targets, order, as_json, question, yes, finish)
    name = names.check_id(device or "", "device ID")
    with Store(fleet.database) as store:
        store.device(name)
    question = f"{name} loses its access now and must be provisioned again. Revoke it?"
    screen.confirm(question, yes, as_json)
    refusal = _cut_off(fleet, name, also_wipe)
    _list_certificates(fleet, passphrase_file, as_json)
    if refusal is None and not as_json:
        screen.good(f"{name} is cut off")
    result = _end(fleet, name, cut_off=True)
    if refusal is not None:
        raise refusal
    _print_end(result, as_json)
    return 0


def _cut_off(fleet: Fleet, device: str, also_wipe: bool) -> HostError | None:
    """Refuse a device at the broker.

    Returns: why a broker did not follow; the certificate's revocation and the authority do not
    wait for it. Raises: not-applicable.
    """
    with Store(fleet.database) as store:
        revocation.order_ending(store, device, revoke=True, wipe=also_wipe)
        try:
            done = revocation.revoke_access(fleet, store, device)
        except HostError as error:
            return error
        if not done:
            raise HostError(
                "not-applicable",
                f"{device} was provisioned again or removed in the meantime",
                "look at `warden devices`; repeat the command if you mean the new device",
            )
    return None


def _list_certificates(fleet: Fleet, passphrase_file: str | None, as_json: bool) -> None:
    """Put revoked certificates on the list; say so where the CA's passphrase is missing."""
    with Store(fleet.database) as store:
        listed = _update_list(fleet, store, passphrase_file)
    if not listed and not as_json:
        screen.show(
            "its certificate is not on the revocation list yet, since that needs the CA's "
            "passphrase: `warden cert crl`. It can log in until then, without any rights"
        )


def _update_list(fleet: Fleet, store: Store, passphrase_file: str | None) -> bool:
    """Put revoked certificates on the list; return False where the CA's passphrase is missing."""
    if not client_pki.exists(fleet) or not certificates.crl_is_due(fleet, store):
        return True
    path = fleet.keys / f"{client_pki.ISSUER}.key"
    passphrase = ca_passphrase.for_key(path, passphrase_file)
    if passphrase is None and pki.is_sealed(path):
        return False
    ca = client_pki.load_issuer(fleet, passphrase)
    certificates.update_crl(fleet, store, ca, certificate_reload(fleet))
    return True


def _end(fleet: Fleet, device: str, cut_off: bool) -> dict[str, Any]:
    """Let a running authority end the device; return the result as JSON shows it.

    cut_off: whether the broker refuses the device already, whatever the authority answers.
    """
    unconfirmed = ""
    answer: dict[str, Any] = {"wiped": False}
    try:
        answer = control_client.call(fleet.control, {"op": "end", "device": device}, 60)
    except HostError as error:
        if error.code != "not-serving":
            # A refused wipe is an error; a device that is cut off needs no confirmation.
            if not cut_off or error.code == "command-refused":
                raise
            unconfirmed = error.code
    with Store(fleet.database) as store:
        ending = store.ending(device)
    result = {
        "device": device,
        "revoked": cut_off,
        "wiped": answer.get("wiped") is True,
        "waits": ending is not None and ending.wipe,
    }
    return result | ({"unconfirmed": unconfirmed} if unconfirmed else {})


def _print_end(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.print_json({"ok": True} | result)
        return
    device, unconfirmed = result["device"], result.get("unconfirmed", "")
    if unconfirmed:
        screen.show(
            f"the running authority did not confirm it ({unconfirmed}): it reads the order "
            "when it starts the next time, and the broker carries nothing of the device until then"
        )
    if result["wiped"]:
        screen.good(f"{device} is wiped, and gone from the fleet")
    elif result["waits"]:
        screen.good(f"{device} is offline: it is wiped on its next contact")
