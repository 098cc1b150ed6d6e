"""`warden devices`: list the devices, and lift a quarantine."""

from collections.abc import Callable
from dataclasses import asdict

import click

from warden_host import control_client
from warden_host.broker import connection
from warden_host.cli import device_filter, operator_devices, screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.cli.device_filter import Filter, Row
from warden_host.cli.table import Table
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.service import live_state
from warden_host.service.live_state import Live
from warden_host.store.devices import Device
from warden_host.store.incidents import Incident
from warden_host.store.listing import Listing

_SHOWN = 5  # incidents in one line of JSON
_STYLES = {
    "online": "green",
    "asleep": "cyan",
    "development": "bold red",
    "quarantined": "bold red",
    "revoked": "bold red",
    "to be wiped": "bold red",
    "diverged": "magenta",
}


@click.command()
@device_filter.options
@click.option("--clear", metavar="DEVICE", help="Lift a quarantine: you vouch for the device.")
@json_option
@pass_state
def devices(state: State, chosen: Filter, clear: str | None, as_json: bool) -> None:
    """List the devices, or lift a quarantine.

    A column in which all devices are the same is named once, below the table.

    \b
    Examples:
      warden devices
      warden devices 'gate-*' --state offline --state away --sort seen
      warden devices --group ground-floor --limit 50 --page 2
      warden devices --summary
      warden devices --json
      warden devices --clear front-door
    """
    if state.socket is not None:
        cleared = operator_devices.show(state.socket, chosen, clear, as_json)
        if clear is not None:
            _print_cleared(clear, cleared is True, as_json)
        return
    fleet = state.fleet()
    if clear is not None:
        _print_cleared(clear, _clear(fleet, clear), as_json)
        return
    live = live_state.ask(fleet)
    with Listing(fleet.database) as store:
        chosen = chosen.with_members(store)
        known = store.devices()
        rows = chosen.rows(
            [
                Row(one, live_state.state(one, live), store.incidents(one.device))
                for one in known
                if chosen.takes(one)
            ]
        )
    if chosen.summary:
        _print_summary(rows, as_json)
        return
    page = chosen.page_of(rows)
    if as_json:
        for row in page:
            screen.print_json(_record(row.known, row.state, live, row.incidents))
    elif page:
        _print_table(page, len(rows))
        if live.online is None:
            screen.show("`warden serve` is not running: no device can be online")
    elif known:
        screen.show(f"none of the {len(known)} devices is like that")
    else:
        screen.show("no devices yet: `warden provision front-door --type lock --sim` makes one")


def _print_table(rows: list[Row], count: int) -> None:
    """Print the table; what all devices have in common is one line below it."""
    cells: dict[str, Callable[[Row], str | tuple[str, str]]] = {
        "device": lambda row: row.known.device,
        "type": lambda row: row.known.type,
        "mode": lambda row: row.known.mode,
        "connects by": lambda row: str(connection.of_record(row.known.policy)),
        "state": lambda row: (row.state, _STYLES.get(row.state, "dim")),
        "obeys": lambda row: ", ".join(pair.appid for pair in row.known.pairs),
        "last seen": lambda row: screen.ago(row.known.last_seen),
        "incidents": lambda row: _count(row.incidents),
    }
    common = []
    for column in ("type", "mode", "connects by", "obeys"):
        values = {cells[column](row) for row in rows}
        if len(values) == 1 and (len(rows) > 1 or column == "connects by"):
            common.append(f"{column} {values.pop()}")
            del cells[column]
    for column, width in (("obeys", 92), ("mode", 92), ("incidents", 72)):
        if column in cells and screen.columns() < width:
            del cells[column]
    table = Table("Devices", *cells, folds=("obeys", "incidents", "connects by"))
    for row in rows:
        table.add_row(*(cell(row) for cell in cells.values()))
    table.print()
    if common:
        screen.note("all: " + "; ".join(common))
    if count > len(rows):
        screen.note(f"{len(rows)} of {count}; --page N shows the others")


def _print_summary(rows: list[Row], as_json: bool) -> None:
    found = device_filter.summary(rows)
    if as_json:
        screen.print_json({"ok": True, "devices": len(rows)} | found)
        return
    screen.show(f"{len(rows)} devices")
    for name, counts in found.items():
        words = ", ".join(f"{count} {value}" for value, count in counts.items())
        screen.field(name, words or "none")


def _print_cleared(device: str, cleared: bool, as_json: bool) -> None:
    if as_json:
        screen.print_json({"ok": True, "device": device, "cleared": cleared})
    elif cleared:
        screen.good(f"{device} is out of quarantine")
    else:
        screen.show(f"{device} is not in quarantine; nothing changed")


def _count(incidents: list[Incident]) -> str:
    if not incidents:
        return "none"
    return f"{sum(each.n for each in incidents)}, {incidents[-1].code}"


def _record(
    known: Device,
    status: str,
    live: Live,
    incidents: list[Incident],
) -> dict[str, object]:
    return {
        "device": known.device,
        "type": known.type,
        "board": known.board,
        "mode": known.mode,
        **asdict(connection.of_record(known.policy)),
        "state": status,
        "quarantine": known.mark.quarantine,
        "reaction": None if known.reaction is None else asdict(known.reaction),
        "ending": None if known.ending is None else asdict(known.ending),
        "apps": [pair.appid for pair in known.pairs],
        "serving": live.online is not None,
        "sessions": (live.online or {}).get(known.device, []),
        "asleep_until": live.asleep_until.get(known.device, 0.0),
        "boot": known.mark.boot,
        "vault_gen": known.mark.vault_gen,
        "last_seen": known.last_seen,
        "incident_count": sum(each.n for each in incidents),
        "incidents_since": min((each.first for each in incidents), default=0.0),
        "incidents": [incident._asdict() for incident in incidents[-_SHOWN:]],
    }


def _clear(fleet: Fleet, device: str) -> bool:
    """Lift the quarantine; return False without one. Proven counters keep binding the device."""
    from warden_host.store.store import Store

    with Store(fleet.database) as store:
        known = store.device(device)
        if known.reaction is not None:
            raise HostError(
                "quarantined",
                f"{device} was restricted for {known.reaction.code}, and needs new secrets",
                f"`warden readmit {device}` gives it these",
            )
        try:
            answer = control_client.call(fleet.control, {"op": "clear", "device": device})
        except HostError as error:
            if error.code != "not-serving":
                raise
            if not known.mark.quarantine:
                return False
            store.clear_quarantine(device)
            return True
        return answer.get("cleared") is True
