"""`warden app grant`, `passwd`, `remove`, `rename` and `show`: applications of a living fleet."""

from collections.abc import Iterable
from typing import Any

import click

from warden_host import control_client, names
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.devices import app_changes
from warden_host.devices.app_changes import Progress, Reach
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import App, Store

_SHOWN = 10  # names in a line for people


def notify(fleet: Fleet) -> None:
    """Let a running `serve` follow a change; without one, the next does when it starts."""
    try:
        control_client.call(fleet.control, {"op": "apps"}, 60)
    except HostError as error:
        if error.code != "not-serving":
            raise


def fields(reach: Reach, unused: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a change concerns, for JSON."""
    lists = {key: list(devices) for key, devices in vars(reach).items()}
    return lists | {"unused_types": list(unused)}


def notes(appid: str, reach: Reach, unused: Iterable[str] = ()) -> list[str]:
    """Return the same for people."""
    found = []
    if reach.waiting:
        found.append(
            f"devices get it at their next contact: {_list(reach.waiting)}; "
            f"`warden app show {appid}` shows the progress"
        )
    if reach.plain:
        found.append(f"plain, so changed by a new provisioning alone: {_list(reach.plain)}")
    if reach.full:
        found.append(f"without room for one more application: {_list(reach.full)}")
    if reach.rotating:
        found.append(
            f"a rotation of its keys is unfinished: {_list(reach.rotating)}; finish it by "
            f"`warden rotate`, then `warden app grant {appid} --device …` gives it to them"
        )
    unused = list(unused)
    if unused:
        found.append(f"no device has the type {', '.join(unused)}: is that a typing error?")
    return found


def _list(devices: Iterable[str]) -> str:
    found = list(devices)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


@click.command("remove", short_help="Cut an application off, and take its keys from all devices.")
@click.argument("appid")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@pass_state
def remove(state: State, appid: str, yes: bool, as_json: bool) -> None:
    """Cut an application off at once, also one that is compromised.

    The broker drops its connection and those of its tokens and refuses them. Each device loses its
    keys at its next contact. The ID is free again: an application that is registered under it gets
    new keys.

    \b
    Examples:
      warden app remove home
      warden app remove home --yes --json
    """
    fleet = state.fleet()
    names.check_id(appid, "appid")
    with Store(fleet.database) as store:
        app_changes.find(store, appid)
        screen.confirm(f"{appid} loses its access and its keys now. Remove it?", yes, as_json)
        reach = app_changes.remove(fleet, store, appid)
    notify(fleet)
    if as_json:
        screen.print_json({"ok": True, "appid": appid} | fields(reach))
        return
    screen.good(f"application {appid} is cut off, and removed", *notes(appid, reach))


@click.command("grant", short_help="Change what an application serves and may do.")
@click.argument("appid")
@click.option("--type", "types", multiple=True, help="A further device type.")
@click.option("--command", "commands", multiple=True, help="A further command.")
@click.option("--device", "devices", multiple=True, help="A further device that gets it.")
@click.option("--no-type", "no_types", multiple=True, help="A device type that it loses.")
@click.option("--no-command", "no_commands", multiple=True, help="A command that it loses.")
@json_option
@pass_state
def grant(
    state: State,
    appid: str,
    types: tuple[str, ...],
    commands: tuple[str, ...],
    devices: tuple[str, ...],
    no_types: tuple[str, ...],
    no_commands: tuple[str, ...],
    as_json: bool,
) -> None:
    """Let an application serve more or fewer devices, and give more or fewer commands.

    All devices of a type that is new to it get it.
    Tokens that allow more than is left are revoked.

    \b
    Examples:
      warden app grant home --command get_relay
      warden app grant home --no-command set_relay --type shutter
      warden app grant home --device back-door
    """
    fleet = state.fleet()
    names.check_id(appid, "appid")
    with Store(fleet.database) as store:
        known = app_changes.find(store, appid)
        wanted = App(
            appid,
            _changed(known.types, types, no_types, "device type"),
            _changed(known.commands, commands, no_commands, "command"),
        )
        reach, revoked = app_changes.grant(fleet, store, wanted, devices)
        unused = app_changes.unused_types(store, types)
        exported = appid in store.exported()
    notify(fleet)
    if as_json:
        now = {"appid": appid, "types": wanted.types, "commands": wanted.commands}
        screen.print_json({"ok": True} | now | {"revoked": revoked} | fields(reach, unused))
        return
    more = [f"revoked, since they allowed more: {', '.join(revoked)}"] if revoked else []
    more += _export_again(appid) if exported else []
    screen.good(
        f"application {appid} serves {', '.join(wanted.types)} and may give "
        f"{', '.join(wanted.commands)}",
        *more,
        *notes(appid, reach, unused),
    )


def _changed(
    has: tuple[str, ...], more: tuple[str, ...], fewer: tuple[str, ...], what: str
) -> tuple[str, ...]:
    for one in fewer:
        if one not in has or one in more:
            raise HostError("bad-argument", f"the {what} {one} can't be taken away from it")
    return tuple(one for one in dict.fromkeys((*has, *more)) if one not in fewer)


@click.command("rename", short_help="Give an application another ID.")
@click.argument("appid")
@click.argument("new")
@json_option
@pass_state
def rename(state: State, appid: str, new: str, as_json: bool) -> None:
    """Register an application under a new ID, with new keys and a new account.

    The old one stays until the new one has had a session with each device. `warden app remove`
    ends it sooner.

    \b
    Example:
      warden app rename home house
    """
    fleet = state.fleet()
    names.check_id(appid, "appid")
    with Store(fleet.database) as store:
        reach = app_changes.rename(fleet, store, appid, new)
        exported = new in store.exported()
    notify(fleet)
    if as_json:
        named = {"appid": new, "before": appid, "exported": exported}
        screen.print_json({"ok": True} | named | fields(reach))
        return
    again = _export_again(new) if exported else []
    screen.good(f"application {appid} is {new} from now on", *again, *notes(new, reach))


@click.command("passwd", short_help="Give an application a new broker password.")
@click.argument("appid")
@json_option
@pass_state
def passwd(state: State, appid: str, as_json: bool) -> None:
    """Give an application a new broker password; its connection is dropped.

    Its keys stay: where they may be known to others, remove it and register it again.

    \b
    Example:
      warden app passwd home
    """
    fleet = state.fleet()
    names.check_id(appid, "appid")
    with Store(fleet.database) as store:
        app_changes.set_password(fleet, store, appid)
        exported = appid in store.exported()
    notify(fleet)
    if as_json:
        screen.print_json({"ok": True, "appid": appid, "exported": exported})
        return
    again = _export_again(appid) if exported else []
    screen.good(f"application {appid} has a new broker password", *again)


def _export_again(appid: str) -> list[str]:
    return [f"its program needs it: `warden app export {appid}`"]


@click.command("show", short_help="Show an application, and which devices have it.")
@click.argument("appid")
@json_option
@pass_state
def show(state: State, appid: str, as_json: bool) -> None:
    """Show an application, the devices that have it, and those that have yet to take a change.

    Also one that was removed, while devices have its keys.

    \b
    Examples:
      warden app show home
      warden app show home --json
    """
    with Store(state.fleet().database) as store:
        names.check_id(appid, "appid")
        found = app_changes.progress(store, appid)
        known = next((app for app in store.apps() if app.appid == appid), None)
        successor = store.renames().get(appid)
        exported = appid in store.exported()
    if as_json:
        _print_json(appid, known, successor, exported, found)
        return
    if known is None:
        screen.show(f"application {appid} was removed")
    else:
        own = ", a party of its own" if exported else ""
        screen.show(f"application {appid}{own}")
        screen.show(f"  device types  {', '.join(known.types)}")
        screen.show(f"  commands      {', '.join(known.commands)}")
    if successor:
        screen.show(f"  becomes       {successor}, where that has had a session with the device")
    screen.show(f"  confirmed by  {len(found.confirmed)} devices")
    if found.plain:
        screen.show(f"  plain         {_list(found.plain)}")
    for change in found.waiting:
        why = f", refused: {change.error}" if change.error else ""
        until = f" once {change.after} has a session" if change.after else ""
        screen.show(f"  waits         {change.device}: {change.kind}{until}{why}")


def _print_json(
    appid: str, known: App | None, successor: str | None, exported: bool, found: Progress
) -> None:
    waiting = [
        {
            "device": change.device,
            "change": change.kind,
            "after": change.after,
            "ordered": int(change.ordered),
            "refused": change.error,
        }
        for change in found.waiting
    ]
    screen.print_json(
        {
            "ok": True,
            "appid": appid,
            "registered": known is not None,
            "types": [] if known is None else known.types,
            "commands": [] if known is None else known.commands,
            "becomes": successor or "",
            "exported": exported,
            "confirmed": list(found.confirmed),
            "waiting": waiting,
            "plain": list(found.plain),
        }
    )
