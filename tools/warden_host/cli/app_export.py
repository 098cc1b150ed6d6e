"""`warden app export`: make an application a party of its own."""

from pathlib import Path

import click

from warden_host.cli import screen
from warden_host.cli.common import State, json_option, notify_serve, pass_state
from warden_host.devices import app_export
from warden_host.store.store import Store


@click.command("export", short_help="Write what an application's own program needs.")
@click.argument("appid")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The file, mode 600. Default: APPID.warden.json here.",
)
@json_option
@pass_state
def export(state: State, appid: str, out: Path | None, as_json: bool) -> None:
    """Write what an application's own program needs: account, CA, pins, keys, topics, scopes.

    From then on it is a party of its own: `warden serve` does not log in as it, and gives no
    command in its name, and sends it the keys of devices that come, change or go. Repeat the call
    after its password, the CA or the pins changed: a program with the client package reads the new
    file by itself.

    \b
    Examples:
      warden app export home
      warden app export home --out /srv/home/home.warden.json
    """
    fleet = state.fleet()
    path = Path(f"{appid}.warden.json") if out is None else out
    with Store(fleet.database) as store:
        app_export.check(path, appid)
        app_export.mark(store, appid)
    notify_serve(fleet)  # it logs out before another party has the account
    with Store(fleet.database) as store:
        content = app_export.document(fleet, store, appid)
    app_export.write(path, content)
    devices = [entry["device"] for entry in content["devices"]]
    if as_json:
        made = {"appid": appid, "file": str(path), "devices": devices}
        screen.print_json({"ok": True} | made)
        return
    count = "1 device" if len(devices) == 1 else f"{len(devices)} devices"
    screen.good(
        f"application {appid} is a party of its own, for {count}",
        f"{path} has its password and keys: bring it to its program by a safe way",
        "docs/applications.md says how to write the program",
    )
