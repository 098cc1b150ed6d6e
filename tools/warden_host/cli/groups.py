"""`warden group`: name devices that belong together, as targets of rollouts."""

import click

from warden_host import names
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.store.store import Store


@click.group()
def group() -> None:
    """Name devices that belong together: a rollout can be for them.

    \b
    Examples:
      warden group add ground-floor front-door back-door
      warden rollout lock-1.4.0 --group ground-floor
    """


@group.command("add")
@click.argument("name")
@click.argument("devices", nargs=-1, required=True)
@json_option
@pass_state
def add(state: State, name: str, devices: tuple[str, ...], as_json: bool) -> None:
    """Put devices into a group; the first device makes the group.

    A running rollout keeps the devices that it started with.

    \b
    Examples:
      warden group add ground-floor front-door back-door
      warden group add testers back-door
    """
    _check(name, devices)
    with Store(state.fleet().database) as store:
        store.add_to_group(name, devices)
        members = store.group(name)
    _print_members(name, members, as_json)


@group.command("remove")
@click.argument("name")
@click.argument("devices", nargs=-1)
@json_option
@pass_state
def remove(state: State, name: str, devices: tuple[str, ...], as_json: bool) -> None:
    """Remove devices from a group, or the whole group.

    Without a device it removes the group. The devices stay in the fleet.

    \b
    Examples:
      warden group remove ground-floor back-door
      warden group remove ground-floor
    """
    _check(name, devices)
    with Store(state.fleet().database) as store:
        store.remove_from_group(name, devices or store.group(name))
        members = store.groups().get(name, [])
    _print_members(name, members, as_json)


@group.command("list")
@click.argument("name", required=False)
@json_option
@pass_state
def list_(state: State, name: str | None, as_json: bool) -> None:
    """List the groups, or one of them.

    \b
    Examples:
      warden group list
      warden group list ground-floor --json
    """
    with Store(state.fleet().database) as store:
        known = store.groups() if name is None else {name: store.group(_check(name))}
    if as_json:
        for one, members in known.items():
            screen.print_json({"group": one, "devices": members})
        return
    table = screen.table("Groups", "group", "devices", folds=("devices",))
    for one, members in known.items():
        table.add_row(one, ", ".join(members))
    screen.out.print(table if known else "no groups yet: `warden group add NAME DEVICE`")


def _check(name: str, devices: tuple[str, ...] = ()) -> str:
    """Raises bad-name."""
    for device in devices:
        names.check_id(device, "device ID")
    return names.check_id(name, "group")


def _print_members(name: str, members: list[str], as_json: bool) -> None:
    if as_json:
        screen.print_json({"ok": True, "group": name, "devices": members})
    elif members:
        screen.good(f"group {name}: {', '.join(members)}")
    else:
        screen.good(f"group {name} is removed: it has no devices left")
