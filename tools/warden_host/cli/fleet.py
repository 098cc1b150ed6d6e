"""`warden init` and `app`: make the fleet and its applications."""

import os
from pathlib import Path

import click

from warden_host.cli import app_changes, app_export, app_token, screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.devices import app_changes as changes
from warden_host.devices import setup
from warden_host.devices.bundle import MAX_APPS
from warden_host.fleet import pki
from warden_host.fleet.fleet import (
    DEFAULT_ADMIN_PORT,
    DEFAULT_PORT,
    BrokerSettings,
    Settings,
    is_host,
)
from warden_host.store.store import App, Store

_PORT = click.IntRange(1, 65535)
_LOCAL = "127.0.0.1"
_LOOPBACK = (_LOCAL, "::1", "localhost")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  refused as a name for devices


def _host(_: click.Context, parameter: click.Parameter, value: str | tuple[str, ...]) -> object:
    for one in (value,) if isinstance(value, str) else value:
        if not is_host(one):
            raise click.BadParameter(f"{one!r} is no host name or address", param=parameter)
    return value


def _here(path: Path) -> str:
    """Return the path relative to the working directory."""
    return os.path.relpath(path)


@click.command()
@click.argument("folder", metavar="FLEET", type=click.Path(path_type=Path))
@click.option(
    "--host",
    default=_LOCAL,
    callback=_host,
    help="The name or address that devices connect to.",
)
@click.option(
    "--listen", default=_LOCAL, callback=_host, help="The address that the broker listens on."
)
@click.option("--port", type=_PORT, default=DEFAULT_PORT, show_default=True)
@click.option("--admin-port", type=_PORT, default=DEFAULT_ADMIN_PORT, show_default=True)
@click.option(
    "--device-port", type=_PORT, help="The port that devices connect to. Default: --port."
)
@click.option(
    "--name", "more", multiple=True, callback=_host, help="A further name for the certificate."
)
@click.option(
    "--command",
    "commands",
    multiple=True,
    default=("set_relay", "get_relay"),
    show_default=True,
    help="A command that the authority itself may give.",
)
@json_option
def init(
    folder: Path,
    host: str,
    listen: str,
    port: int,
    admin_port: int,
    device_port: int | None,
    more: tuple[str, ...],
    commands: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a new fleet: keys, CA, broker configuration, database.

    \b
    Examples:
      warden init fleet
      warden init fleet --host broker.example.net --listen 0.0.0.0
      warden init fleet --port 18883 --admin-port 18882
    """
    if port == admin_port:
        raise click.UsageError("--port and --admin-port are the same: give each one of its own")
    if host in _LOOPBACK and listen not in _LOOPBACK:
        raise click.UsageError(
            f"devices would be told to connect to {host}, which is each device itself: name this "
            "machine as they reach it, --host NAME"
        )
    if host in _EVERYWHERE:
        raise click.UsageError(f"--host {host} is no address to connect to: name this machine")
    hosts = tuple(dict.fromkeys(("localhost", "127.0.0.1", host, *more)))
    broker = BrokerSettings(host, listen, port, device_port or port, admin_port, hosts)
    made = setup.new_fleet(folder, Settings(broker, tuple(dict.fromkeys(commands))))
    live, backup = pki.load_pins(made.keys)
    if as_json:
        screen.print_json({"ok": True, "fleet": str(made.root), "pins": [live, backup]})
        return
    screen.good(
        f"fleet made in {folder}",
        f"live pin    {live.hex()}",
        f"backup pin  {backup.hex()}",
        f"back up the folder, and keep {_here(made.keys / 'backup.key')} elsewhere",
        f"next: warden{_fleet_option(made.root)} app add home --type lock --command set_relay",
    )


def _fleet_option(root: Path) -> str:
    """Return the option that finds the fleet from here; ./fleet needs none."""
    return "" if root == Path.cwd() / "fleet" else f" --fleet {_here(root)}"


@click.group()
def app() -> None:
    """Register the applications that may command devices.

    \b
    Examples:
      warden app add home --type lock --command set_relay
      warden app grant home --command get_relay
      warden app remove home
    """


@app.command("add", short_help="Register an application.")
@click.argument("appid")
@click.option("--type", "types", multiple=True, required=True, help="A device type it serves.")
@click.option("--command", "commands", multiple=True, required=True, help="A command it may give.")
@click.option("--device", "devices", multiple=True, help="A device that gets it. Default: all.")
@json_option
@pass_state
def add(
    state: State,
    appid: str,
    types: tuple[str, ...],
    commands: tuple[str, ...],
    devices: tuple[str, ...],
    as_json: bool,
) -> None:
    """Register an application: its appid, its broker account, what it may do.

    Devices of its types get it at their next contact, new ones when they are provisioned. Each
    takes at most 7, of 32 commands each.

    \b
    Examples:
      warden app add home --type lock --command set_relay --command get_relay
      warden app add dash --type lock --command get_relay --device front-door
    """
    fleet = state.fleet()
    entry = App(appid, tuple(dict.fromkeys(types)), tuple(dict.fromkeys(commands)))
    with Store(fleet.database) as store:
        reach = changes.add(fleet, store, entry, devices or None)
        crowded = setup.overfull_types(store, entry.types)
        unused = changes.unused_types(store, entry.types)
    app_changes.notify(fleet)
    if as_json:
        added = {"appid": appid, "types": types, "commands": commands, "above_limit": crowded}
        screen.print_json({"ok": True} | added | app_changes.fields(reach, unused))
        return
    notes = [f"its broker password is in {_here(fleet.keys / f'app-{appid}.password')}"]
    notes += app_changes.notes(appid, reach, unused)
    if crowded:
        notes.append(
            f"more applications serve {', '.join(crowded)} than the {MAX_APPS - 1} that a device "
            "takes: name each device's with `warden provision DEVICE --app APPID`"
        )
    screen.good(f"application {appid} registered", *notes)


for _command in (
    app_changes.grant,
    app_changes.passwd,
    app_changes.remove,
    app_changes.rename,
    app_changes.show,
    app_export.export,
    app_token.token,
    app_token.tokens,
    app_token.revoke_token,
    app_token.token_key,
):
    app.add_command(_command)


@app.command("list")
@json_option
@pass_state
def list_(state: State, as_json: bool) -> None:
    """List the applications.

    \b
    Example:
      warden app list --json
    """
    with Store(state.fleet().database) as store:
        apps = store.apps()
    if as_json:
        for entry in apps:
            screen.print_json(vars(entry))
        return
    table = screen.table(
        "Applications", "appid", "device types", "commands", folds=("device types", "commands")
    )
    for entry in apps:
        table.add_row(entry.appid, ", ".join(entry.types), ", ".join(entry.commands))
    screen.out.print(table if apps else "no applications beside the authority")
