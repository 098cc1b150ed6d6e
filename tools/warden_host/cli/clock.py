"""`warden clock`: show a device's clock, and set it by an order that a release key signs."""

import time
from typing import Any

import click

from warden_host import control_client, names
from warden_host.cli import screen, targets
from warden_host.cli.common import State, json_option, pass_state
from warden_host.cli.keys import passphrase_option, read_passphrase
from warden_host.cli.targets import Targets
from warden_host.devices import clock_order
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.release import signing_key
from warden_host.store.store import Device, Store

_AHEAD_S = 2  # a smaller difference is not shown


@click.group(short_help="Show a device's clock, or set it by a signed order.")
def clock() -> None:
    """Show a device's clock, or set it by a signed order.

    A device never sets its clock back by itself, and forward only as far as can have passed. One
    that was taught a false time is set right by an order that a release key signed.

    \b
    Examples:
      warden clock show front-door
      warden clock set front-door
    """


@clock.command("show")
@click.argument("device")
@json_option
@pass_state
def show_command(state: State, device: str, as_json: bool) -> None:
    """Show what a device's clock says, and the time that it does not go below.

    \b
    Examples:
      warden clock show front-door
      warden clock show front-door --json
    """
    names.check_id(device, "device ID")
    found = clock_order.state(device, _ask(state.fleet(), device))
    least = max(found.mark, found.floor)
    if as_json:
        screen.print_json({"ok": True, "device": device, "now": found.now, "least": least})
        return
    off = found.now - int(time.time())
    behind = f", {abs(off)} s {'ahead of' if off > 0 else 'behind'} this host"
    screen.show(f"{device} has {_shown(found.now)}{behind if abs(off) > _AHEAD_S else ''}")
    screen.show(f"it never goes below {_shown(least)}")


@clock.command("set")
@click.argument("device", required=False)
@click.option("--key", "key_name", default="", metavar="NAME", help="The release key that signs.")
@passphrase_option
@click.option("--yes", is_flag=True, help="Don't ask.")
@targets.options
@json_option
@pass_state
def set_command(
    state: State,
    device: str | None,
    key_name: str,
    passphrase_file: str | None,
    yes: bool,
    targets: Targets,
    as_json: bool,
) -> int:
    """Set a device's clock to this host's time, and restart the device.

    For a device that was taught a false time, or that refuses the authority's (`time-ahead`). The
    order is signed by a release key that the device knows, for this device and its present
    session alone. Codes and commands that were used stay refused.

    \b
    Examples:
      warden clock set front-door
      warden clock set --all --passphrase-file release.pass --yes
    """
    several = targets.many(device)
    fleet = state.fleet()
    key = signing_key.find(fleet, key_name)
    private = signing_key.open_private(fleet, key, read_passphrase(passphrase_file, new=False))
    with Store(fleet.database) as store:
        vendor = store.vendor()
        if device is not None:
            why = _why_not(store.device(names.check_id(device, "device ID")))
            if why:
                raise HostError("not-applicable", f"{device} is {why}: it takes no such order")

    def act(one: str) -> dict[str, Any]:
        ask = _ask(fleet, one)
        before = clock_order.state(one, ask)
        now = int(time.time())
        codes = clock_order.give(one, ask, before, vendor, private, now)
        return {"before": before.now, "time": now, "codes": codes}

    question = f"This host says {_shown(time.time())}. Set {{what}} to that, for good?"
    if several:
        from warden_host.cli import many, runner

        order = runner.Order(["clock", key.name], act, _why_not)
        text = question.format(what="the clocks of {count} devices")
        return many.run(fleet, targets, order, as_json, text, yes)
    name = device or ""
    screen.confirm(question.format(what=f"the clock of {name}"), yes, as_json)
    done = act(name)
    if as_json:
        screen.print_json({"ok": True, "device": name} | done)
        return 0
    screen.good(f"{name} had {_shown(done['before'])}, has {_shown(done['time'])}, and restarts")
    if done["codes"] > done["time"] + 600:
        screen.note(
            f"codes were used while its clock was ahead: its keypad takes new ones by time from "
            f"{_shown(done['codes'])} on; until then `warden unlock {name}`, or provision it again"
        )
    return 0


def _why_not(known: Device) -> str:
    """Return why a device takes no such order, or ""."""
    if known.ending:
        return "revoked"
    return "" if known.mode == "sealed" else "plain"


def _ask(fleet: Fleet, device: str) -> clock_order.Ask:
    def ask(fields: dict[str, Any]) -> dict[str, Any]:
        request = {"op": "clock", "device": device, "timeout": 10}
        return control_client.call(fleet.control, request | fields, 60)

    return ask


def _shown(unix_time: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(unix_time))
