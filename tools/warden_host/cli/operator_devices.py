"""`warden devices` for an operator, who has the socket of `warden serve` and no fleet folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from warden_host import control_client
from warden_host.cli import screen
from warden_host.cli.device_filter import Filter
from warden_host.cli.table import Table


def show(path: Path, chosen: Filter, clear: str | None, as_json: bool) -> bool | None:
    """List the devices, or lift a quarantine and return whether there was one."""
    if clear is not None:
        answer = control_client.call(path, {"op": "clear", "device": clear})
        return answer.get("cleared") is True
    if chosen != Filter():
        raise click.UsageError("over a socket, `devices` lists all of them")
    rows = list(_rows(path))
    if as_json:
        for device, type_, presence, quarantined in rows:
            line = {"device": device, "type": type_, "presence": presence}
            screen.print_json(line | {"quarantined": quarantined})
        return None
    table = Table("Devices", "device", "type", "state")
    for device, type_, presence, quarantined in rows:
        state = "quarantined" if quarantined else str(presence) or "offline"
        table.add_row(str(device), str(type_), state)
    if rows:
        table.print()
    else:
        screen.show("no devices yet")
    return None


def _rows(path: Path) -> Iterator[list[Any]]:
    for page in control_client.stream(path, {"op": "devices"}, 60.0):
        rows = page.get("devices", [])
        yield from (row for row in rows if isinstance(row, list) and len(row) == 4)
