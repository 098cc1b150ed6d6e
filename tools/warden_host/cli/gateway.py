"""`warden gateway`: accounts that relay the sealed messages of listed devices."""

from pathlib import Path

import click
from warden_client import secretfile

from warden_host import jsontext, names
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.devices import gateways
from warden_host.store.store import Store

_out = click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to write what the gateway's program reads; mode 600.",
)


@click.group()
def gateway() -> None:
    """Let a gateway relay for devices that have no TLS.

    It opens nothing of what they seal.

    \b
    Examples:
      warden gateway add hall --device meter-7 --device meter-8 --out hall.json
      warden gateway grant hall meter-9
    """


@gateway.command("add")
@click.argument("name")
@click.option("--device", "devices", multiple=True, help="Relay for this device. Repeatable.")
@_out
@json_option
@pass_state
def add(state: State, name: str, devices: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Register a gateway, and write the file that its program reads.

    \b
    Examples:
      warden gateway add hall --device meter-7 --device meter-8 --out hall.json
    """
    fleet = state.fleet()
    _check(name, devices)
    with Store(fleet.database) as store:
        password = gateways.add(fleet, store, name, devices)
        _write(out, gateways.document(fleet, store, name, password))
    if as_json:
        screen.print_json({"ok": True, "gateway": name, "devices": devices, "file": str(out)})
        return
    screen.good(
        f"gateway {name} relays for {', '.join(devices) or 'no device yet'}",
        f"take {out} to its machine: the password in it is nowhere else",
        "docs/gateways.md says how its program is started",
    )


@gateway.command("grant")
@click.argument("name")
@click.argument("devices", nargs=-1, required=True)
@json_option
@pass_state
def grant(state: State, name: str, devices: tuple[str, ...], as_json: bool) -> None:
    """Let a gateway relay for further devices. A device may be at several gateways.

    The broker follows at once; the gateway's program knows them after `warden gateway export`.

    \b
    Examples:
      warden gateway grant hall meter-9
    """
    _change(state, name, devices, (), as_json)


@gateway.command("revoke")
@click.argument("name")
@click.argument("devices", nargs=-1, required=True)
@json_option
@pass_state
def revoke(state: State, name: str, devices: tuple[str, ...], as_json: bool) -> None:
    """Take devices from a gateway: the broker passes nothing of theirs through it any more.

    \b
    Examples:
      warden gateway revoke hall meter-9
    """
    _change(state, name, (), devices, as_json)


@gateway.command("export")
@click.argument("name")
@_out
@json_option
@pass_state
def export(state: State, name: str, out: Path, as_json: bool) -> None:
    """Give a gateway a new password, and write the file with it and with its devices.

    Its connection ends: start its program with the new file.

    \b
    Examples:
      warden gateway export hall --out hall.json
    """
    fleet = state.fleet()
    _check(name)
    with Store(fleet.database) as store:
        password = gateways.new_password(fleet, store, name)
        _write(out, gateways.document(fleet, store, name, password))
    if as_json:
        screen.print_json({"ok": True, "gateway": name, "file": str(out)})
    else:
        screen.good(f"gateway {name} is in {out}; its former password ended")


@gateway.command("remove")
@click.argument("name")
@json_option
@pass_state
def remove(state: State, name: str, as_json: bool) -> None:
    """Remove a gateway: its connection ends at once. Its devices stay in the fleet.

    \b
    Examples:
      warden gateway remove hall
    """
    fleet = state.fleet()
    _check(name)
    with Store(fleet.database) as store:
        gateways.remove(fleet, store, name)
    if as_json:
        screen.print_json({"ok": True, "gateway": name})
    else:
        screen.good(f"gateway {name} is removed")


@gateway.command("list")
@json_option
@pass_state
def list_(state: State, as_json: bool) -> None:
    """List the gateways and their devices.

    \b
    Examples:
      warden gateway list
    """
    with Store(state.fleet().database) as store:
        known = store.gateways()
    if as_json:
        for name, devices in known.items():
            screen.print_json({"gateway": name, "devices": devices})
        return
    table = screen.table("Gateways", "gateway", "devices", folds=("devices",))
    for name, devices in known.items():
        table.add_row(name, ", ".join(devices))
    screen.out.print(table if known else "no gateways yet: `warden gateway add NAME`")


def _change(
    state: State, name: str, more: tuple[str, ...], less: tuple[str, ...], as_json: bool
) -> None:
    fleet = state.fleet()
    _check(name, (*more, *less))
    with Store(fleet.database) as store:
        devices = gateways.change(fleet, store, name, more, less)
    if as_json:
        screen.print_json({"ok": True, "gateway": name, "devices": devices})
    else:
        screen.good(f"gateway {name} relays for {', '.join(devices) or 'no device'}")


def _write(path: Path, content: dict[str, object]) -> None:
    secretfile.write(path, jsontext.encode(content) + b"\n")


def _check(name: str, devices: tuple[str, ...] = ()) -> None:
    """Raise bad-name."""
    names.check_id(name, "gateway")
    for device in devices:
        names.check_id(device, "device ID")
