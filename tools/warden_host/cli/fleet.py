"""`warden init`, `app` and `provision`: make the fleet, its applications and devices."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from warden_host.cli import otp_options, pin, screen
from warden_host.cli.common import State, json_option, notify_serve, pass_state
from warden_host.devices import provision, setup
from warden_host.devices.bundle import MAX_APPS
from warden_host.fleet import device_tree, pki
from warden_host.fleet.fleet import (
    DEFAULT_ADMIN_PORT,
    DEFAULT_PORT,
    BrokerSettings,
    Settings,
    is_host,
)
from warden_host.protocol import policy
from warden_host.store.store import App, Store

_PORT = click.IntRange(1, 65535)


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
    default="127.0.0.1",
    callback=_host,
    help="The name or address that devices connect to.",
)
@click.option(
    "--listen", default="127.0.0.1", callback=_host, help="The address that the broker listens on."
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
    Example:
      warden app add home --type lock --command set_relay
    """


@app.command("add", short_help="Register an application.")
@click.argument("appid")
@click.option("--type", "types", multiple=True, required=True, help="A device type it serves.")
@click.option("--command", "commands", multiple=True, required=True, help="A command it may give.")
@json_option
@pass_state
def add(
    state: State, appid: str, types: tuple[str, ...], commands: tuple[str, ...], as_json: bool
) -> None:
    """Register an application: its appid, its broker account, what it may do.

    Devices learn of it when they are provisioned: each takes at most 7, of 32 commands each.

    \b
    Example:
      warden app add home --type lock --command set_relay --command get_relay
    """
    fleet = state.fleet()
    entry = App(appid, tuple(dict.fromkeys(types)), tuple(dict.fromkeys(commands)))
    with Store(fleet.database) as store:
        setup.add_app(fleet, store, entry)
        crowded = setup.overfull_types(store, entry.types)
        waiting = [known.device for known in store.devices() if known.type in entry.types]
    notify_serve(fleet)
    if as_json:
        added = {"appid": appid, "types": types, "commands": commands, "above_limit": crowded}
        screen.print_json({"ok": True} | added)
        return
    notes = [f"its broker password is in {_here(fleet.keys / f'app-{appid}.password')}"]
    if waiting:
        notes.append("provisioned before, so without it: " + ", ".join(waiting))
    if crowded:
        notes.append(
            f"more applications serve {', '.join(crowded)} than the {MAX_APPS - 1} that a device "
            "takes: name each device's with `warden provision DEVICE --app APPID`"
        )
    screen.good(f"application {appid} registered", *notes)


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


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each of the policy's limits."""
    for key, text in reversed(policy.LIMITS.items()):
        low, high, plain = policy.limit(key)
        command = click.option(
            "--" + key.replace("_", "-"),
            key,
            type=click.IntRange(low, high),
            help=f"{text}. Default: {plain}.",
        )(command)
    return command


@click.command("provision")
@click.argument("device")
@click.option("--type", "type_", default="relay", show_default=True, help="The device type.")
@click.option("--board", default="UNIX", show_default=True, help="A folder of boards/.")
@click.option(
    "--sim", is_flag=True, help="A simulated device on the unix port: the only kind so far."
)
@click.option("--plain", is_flag=True, help="Plain mode: JSON, no protection from the broker.")
@click.option("--app", "apps", multiple=True, help="Only these applications. Default: all.")
@click.option("--command", "commands", multiple=True, help="A further command for the authority.")
@click.option("--again", is_flag=True, help="Replace an existing device: all-new secrets.")
@click.option(
    "--source",
    type=click.Path(exists=True, path_type=Path),
    help="The device's application: app.py or a folder with it. Default: examples/relay.",
)
@click.option(
    "--pin-file",
    metavar="FILE",
    help="For a board whose root key needs a PIN: read it from a file (mode 600), or from "
    "standard input: -. Default: ask.",
)
@click.option("--strict", is_flag=True, help="Check an update's signature at each boot.")
@limit_options
@otp_options.gate_options
@json_option
@pass_state
def provision_command(
    state: State,
    /,
    device: str,
    type_: str,
    board: str,
    sim: bool,
    plain: bool,
    apps: tuple[str, ...],
    commands: tuple[str, ...],
    again: bool,
    source: Path | None,
    pin_file: str | None,
    strict: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Make a device: its secrets, its files, its place in the fleet.

    \b
    Examples:
      warden provision front-door --type lock --sim
      warden provision back-door --type lock --sim --plain --app home
      warden provision front-door --type lock --sim --again
      warden provision front-door --type lock --sim --otp authority --otp-digits 8
    """
    if not sim:
        raise click.UsageError("only simulated boards can be provisioned so far: add --sim")
    fleet = state.fleet()
    limits = {key: value for key in policy.LIMITS if (value := more.pop(key)) is not None}
    gate = otp_options.gate(fleet, board, more)
    chosen = (apps or None, commands, again, source, gate, strict, limits)
    typed = pin.read(device_tree.tree().board(board) / "board.py", pin_file, new=True)
    order = provision.Order(device, type_, board, plain, *chosen, typed)
    with Store(fleet.database) as store:
        made = provision.provision(fleet, store, order)
    notify_serve(fleet, device)
    known = [pair.appid for pair in made.pairs]
    if as_json:
        screen.print_json(
            {"ok": True, "device": device, "type": type_, "mode": made.mode, "apps": known}
        )
        return
    screen.good(
        f"device {device} provisioned",
        f"type {type_}, board {board}, mode {made.mode}; obeys {', '.join(known)}",
        "its broker password is in its vault alone; the broker has a hash, the fleet nothing",
        *otp_options.notes(device, gate),
        f"next: warden run {device}",
    )
