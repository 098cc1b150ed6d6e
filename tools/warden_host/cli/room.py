"""`warden room`: devices without secrets beside the fleet's own, in rooms of their own."""

import click

from warden_host import names
from warden_host.broker.accounts import OPEN_PASSWORD
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, notify_serve, pass_state
from warden_host.devices import rooms
from warden_host.store.store import Store


@click.group()
def room() -> None:
    """Let devices without secrets publish, in a room of their own.

    Nothing proves who sends there, and nothing there is commanded: docs/rooms.md.

    \b
    Examples:
      warden room add weather mast roof
      warden app add home --type lock --type weather --command set_relay
    """


@room.command("add")
@click.argument("name")
@click.argument("devices", nargs=-1, required=True)
@json_option
@pass_state
def add(state: State, name: str, devices: tuple[str, ...], as_json: bool) -> None:
    """Let devices into a room; the first one makes it.

    \b
    Examples:
      warden room add weather mast roof
    """
    fleet = state.fleet()
    with Store(fleet.database) as store:
        found = rooms.add(fleet, store, name, devices)
    notify_serve(fleet)
    if as_json:
        screen.print_json({"ok": True, "room": name, "devices": found})
        return
    base = names.topic_base(name, "DEVICE")
    screen.good(
        f"room {name}: {', '.join(found)}",
        f"user name and client ID: {names.open_client(name, 'DEVICE')}, password: {OPEN_PASSWORD}",
        f"topic: {base}/evt/EVENT/fmt/{names.PLAIN}, a JSON object",
        "anyone who reaches the broker can send as these devices",
    )


@room.command("remove")
@click.argument("name")
@click.argument("devices", nargs=-1)
@json_option
@pass_state
def remove(state: State, name: str, devices: tuple[str, ...], as_json: bool) -> None:
    """Take devices out of a room, or the whole room: their connections end.

    \b
    Examples:
      warden room remove weather roof
      warden room remove weather
    """
    fleet = state.fleet()
    with Store(fleet.database) as store:
        left = rooms.remove(fleet, store, name, devices)
    notify_serve(fleet)
    if as_json:
        screen.print_json({"ok": True, "room": name, "devices": left})
    else:
        screen.good(f"room {name}: {', '.join(left) or 'it is gone'}")


@room.command("list")
@json_option
@pass_state
def list_(state: State, as_json: bool) -> None:
    """List the rooms and their devices.

    \b
    Examples:
      warden room list
    """
    with Store(state.fleet().database) as store:
        known = store.rooms()
    if as_json:
        for name, devices in known.items():
            screen.print_json({"room": name, "devices": devices})
        return
    table = screen.table("Open rooms", "room", "devices", folds=("devices",))
    for name, devices in known.items():
        table.add_row(name, ", ".join(devices))
    screen.out.print(table if known else "no open rooms: `warden room add NAME DEVICE`")
