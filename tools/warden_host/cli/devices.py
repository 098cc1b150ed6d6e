"""`warden devices`: list the devices, and lift a quarantine."""

from collections.abc import Callable
from dataclasses import asdict

import click
from rich.table import Table

from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.service import control
from warden_host.store.store import Device, Incident, Store

_Row = tuple[Device, str, list[Incident]]
_SHOWN = 5  # incidents in one line of JSON
_STYLES = {
    "online": "green",
    "quarantined": "bold red",
    "revoked": "bold red",
    "to be wiped": "bold red",
    "diverged": "magenta",
}


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
      warden devices --clear front-door
    """
    fleet = state.fleet()
    if clear is not None:
        cleared = _clear(fleet, clear)
        if as_json:
            screen.print_json({"ok": True, "device": clear, "cleared": cleared})
        elif cleared:
            screen.good(f"{clear} is out of quarantine")
        else:
            screen.show(f"{clear} is not in quarantine; nothing changed")
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
    elif rows:
        screen.out.print(_table(rows))
        if online is None:
            screen.show("`warden serve` is not running: no device can be online")
    else:
        screen.show("no devices yet: `warden provision front-door --type lock --sim` makes one")


def _table(rows: list[_Row]) -> Table:
    """Return the table; a narrow screen drops the columns that change least."""
    cells: dict[str, Callable[[_Row], str]] = {
        "device": lambda row: row[0].device,
        "type": lambda row: row[0].type,
        "mode": lambda row: row[0].mode,
        "state": lambda row: f"[{_STYLES.get(row[1], 'dim')}]{row[1]}[/]",
        "obeys": lambda row: ", ".join(pair.appid for pair in row[0].pairs),
        "last seen": lambda row: screen.ago(row[0].last_seen),
        "incidents": lambda row: _count(row[2]),
    }
    for column, width in (("mode", 92), ("type", 80), ("obeys", 60)):
        if screen.out.width < width:
            del cells[column]
    table = screen.table("Devices", *cells, folds=("obeys", "incidents"))
    for row in rows:
        table.add_row(*(cell(row) for cell in cells.values()))
    return table


def _count(incidents: list[Incident]) -> str:
    if not incidents:
        return "none"
    return f"{sum(each.n for each in incidents)}, {incidents[-1].code}"


def _online(fleet: Fleet) -> dict[str, list[str]] | None:
    """Return {device: its applications with a session}; None when `serve` is not running."""
    try:
        answer = control.call(fleet.control, {"op": "online"})["online"]
    except HostError as error:
        if error.code != "not-serving":
            raise
        return None
    return {str(name): [str(app) for app in apps] for name, apps in answer.items()}


def _state(known: Device, online: dict[str, list[str]] | None) -> str:
    """Return the state in one word; "provisioned" until the first contact.

    online: None without `serve`, whose broker is the only one: then no device is online.
    """
    if known.ending is not None:
        return "to be wiped" if known.ending.wipe else "revoked"
    if known.mark.quarantine:
        return "quarantined"
    if known.diverged:
        return "diverged"
    if known.device in (online or {}):
        return "online"
    return "offline" if known.last_seen > 0 else "provisioned"


def _record(
    known: Device,
    status: str,
    online: dict[str, list[str]] | None,
    incidents: list[Incident],
) -> dict[str, object]:
    return {
        "device": known.device,
        "type": known.type,
        "board": known.board,
        "mode": known.mode,
        "state": status,
        "quarantine": known.mark.quarantine,
        "ending": None if known.ending is None else asdict(known.ending),
        "apps": [pair.appid for pair in known.pairs],
        "serving": online is not None,
        "sessions": (online or {}).get(known.device, []),
        "boot": known.mark.boot,
        "vault_gen": known.mark.vault_gen,
        "last_seen": known.last_seen,
        "incident_count": sum(each.n for each in incidents),
        "incidents_since": min((each.first for each in incidents), default=0.0),
        "incidents": [incident._asdict() for incident in incidents[-_SHOWN:]],
    }


def _clear(fleet: Fleet, device: str) -> bool:
    """Lift the quarantine; return False without one. Proven counters keep binding the device."""
    with Store(fleet.database) as store:
        known = store.device(device)
        try:
            answer = control.call(fleet.control, {"op": "clear", "device": device})
        except HostError as error:
            if error.code != "not-serving":
                raise
            if not known.mark.quarantine:
                return False
            store.clear_quarantine(device)
            return True
        return answer.get("cleared") is True
