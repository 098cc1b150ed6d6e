"""`warden devices`: the list, and the owner's word that lifts a quarantine."""

import click

from warden_host import control, screen
from warden_host.cli_common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.fleet import Fleet
from warden_host.store import Device, Incident, Store


@click.command()
@click.option("--clear", metavar="DEVICE", help="Lift a quarantine: you vouch for the device.")
@json_option
@pass_state
def devices(state: State, clear: str | None, as_json: bool) -> None:
    """List the devices, or lift a quarantine.

    \b
    Examples:
      warden devices
      warden devices --json
      warden devices --clear D1
    """
    fleet = state.fleet()
    if clear is not None:
        _clear(fleet, clear)
        if as_json:
            screen.print_json({"ok": True, "device": clear})
        else:
            screen.good(f"{clear} is out of quarantine")
        return
    online = _online(fleet)
    with Store(fleet.database) as store:
        rows = [
            (known, _state(known, online), store.incidents(known.device))
            for known in store.devices()
        ]
    if as_json:
        for known, status, incidents in rows:
            screen.print_json(_record(known, status, online, incidents))
        return
    table = screen.table(
        "Devices",
        "device",
        "type",
        "mode",
        "state",
        "obeys",
        "last seen",
        "incidents",
        folds=("type", "obeys"),
    )
    styles = {"online": "green", "quarantined": "bold red", "diverged": "magenta"}
    for known, status, incidents in rows:
        table.add_row(
            known.device,
            known.type,
            known.mode,
            f"[{styles.get(status, 'dim')}]{status}[/]",
            ", ".join(pair.appid for pair in known.pairs),
            screen.ago(known.last_seen),
            f"{sum(each.n for each in incidents)}, {incidents[-1].code}" if incidents else "none",
        )
    screen.out.print(table if rows else "no devices yet: `warden provision D1 --sim` makes one")


def _online(fleet: Fleet) -> dict[str, list[str]]:
    try:
        answer = control.call(fleet.control, {"op": "online"})["online"]
    except HostError as error:
        if error.code != "not-serving":
            raise
        return {}
    return {str(name): [str(app) for app in apps] for name, apps in answer.items()}


def _state(known: Device, online: dict[str, list[str]]) -> str:
    if known.mark.quarantine:
        return "quarantined"
    if known.diverged:
        return "diverged"
    return "online" if known.device in online else "provisioned"


def _record(
    known: Device,
    status: str,
    online: dict[str, list[str]],
    incidents: list[Incident],
) -> dict[str, object]:
    return {
        "device": known.device,
        "type": known.type,
        "board": known.board,
        "mode": known.mode,
        "state": status,
        "quarantine": known.mark.quarantine,
        "apps": [pair.appid for pair in known.pairs],
        "sessions": online.get(known.device, []),
        "boot": known.mark.boot,
        "vault_gen": known.mark.vault_gen,
        "last_seen": known.last_seen,
        "incidents": [incident._asdict() for incident in incidents],
    }


def _clear(fleet: Fleet, device: str) -> None:
    with Store(fleet.database) as store:
        store.device(device)
        try:
            control.call(fleet.control, {"op": "clear", "device": device})
        except HostError as error:
            if error.code != "not-serving":
                raise
            store.clear(device)
