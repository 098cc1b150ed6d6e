"""`warden policy`: show a device's policy, and change its limits over the link."""

import re
from typing import Any

import click

from warden_host import control_client, filelock, names
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.devices import policies as changes
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.store.store import Device, Store

_BOUNDS = ", ".join(
    "{} {} to {}".format(key, *policy.limit(key)[:2]) for key in sorted(policy.LIMITS)
)


@click.group("policy", short_help="Show a device's policy, or change its limits over the link.")
def policies() -> None:
    """Show a device's policy, or change its limits over the link.

    \b
    Examples:
      warden policy show front-door
      warden policy set meter-7 stall_ms=30000 handshake_ms=60000
    """


@policies.command("show")
@click.argument("device")
@json_option
@pass_state
def show_command(state: State, device: str, as_json: bool) -> None:
    """Show a device's policy, and whether it tries another one.

    \b
    Examples:
      warden policy show front-door
      warden policy show front-door --json
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    with Store(fleet.database) as store:
        known = store.device(device)
        if known.next_policy is not None:  # it may have ended since
            known = _settled(fleet, store, known)
    values = policy.parse(known.policy)
    following = None if known.next_policy is None else policy.parse(known.next_policy)
    if as_json:
        screen.print_json({"ok": True, "device": device, "policy": values, "trying": following})
        return
    screen.show(f"policy of {device}:")
    for key, value in values.items():
        tried = (
            "" if following is None or following[key] == value else f"   tries {following[key]}"
        )
        screen.show(f"  {key:16} {_shown(value)}{tried}")


def _settled(fleet: Fleet, store: Store, known: Device) -> Device:
    """Ask the device what became of its change, where it can be asked; return its record.

    Not while another call gives it one: an answer from before the order would end the change.
    """
    lock = _try_lock(fleet, known.device)
    if lock is None:
        return known
    with lock:
        try:
            _change(fleet, store, known.device).state()
        except HostError as error:
            click.echo(f"{known.device} can't be asked just now: {error.code}", err=True)
    return store.device(known.device)


def _try_lock(fleet: Fleet, device: str) -> filelock.Lock | None:
    """Lock the changes of a device's policy; return None where another process makes one."""
    home = fleet.simulated(device)
    return filelock.try_lock(home.with_name(f"{home.name}.policy.lock"))


@policies.command("set")
@click.argument("device")
@click.argument("values", nargs=-1, required=True, metavar="KEY=VALUE…")
@click.option("--timeout", default=600.0, show_default=True, help="How long to wait, seconds.")
@json_option
@pass_state
def set_command(
    state: State, device: str, values: tuple[str, ...], timeout: float, as_json: bool
) -> int:
    fleet = state.fleet()
    names.check_id(device, "device ID")
    limits = _limits(values)
    with Store(fleet.database) as store:
        if store.device(device).mode != "sealed":
            raise HostError(
                "not-applicable",
                f"{device} is plain: its policy is changed at the bench alone",
                "provision it again",
            )

        def report(text: str) -> None:
            if as_json:
                screen.print_json({"device": device, "stage": text})
            else:
                screen.good(text)

        lock = _try_lock(fleet, device)
        if lock is None:
            raise HostError(
                "not-applicable",
                f"another `warden` changes the policy of {device} just now",
                "wait until it has ended",
            )
        with lock:
            _change(fleet, store, device).make(limits, report, timeout)
    if as_json:
        screen.print_json({"ok": True, "device": device, "changed": limits})
    else:
        screen.good(
            f"{device} has proved its new policy",
            ", ".join(f"{key} {value}" for key, value in limits.items()),
        )
    return 0


set_command.help = f"""Change a device's limits over the link, such as its keepalive.

The device keeps its old policy until its session came up under the new one. After three tries
without one it goes back to it. All other values are set at provisioning alone.

Keys: {_BOUNDS}.

\b
Examples:
  warden policy set meter-7 stall_ms=30000 handshake_ms=60000
  warden policy set meter-7 keepalive_s=25
"""


def _limits(values: tuple[str, ...]) -> dict[str, int]:
    """Return the limits that the arguments name. Raises bad-argument."""
    found: dict[str, int] = {}
    for text in values:
        key, _, value = text.partition("=")
        if key not in policy.LIMITS:
            raise HostError(
                "bad-argument",
                f"{key!r} can't be changed over the link",
                f"these can: {', '.join(policy.LIMITS)}; others by `warden provision --again`",
            )
        low, high, _ = policy.limit(key)
        number = int(value) if re.fullmatch("[0-9]{1,9}", value) else -1
        if not low <= number <= high:
            raise HostError("bad-argument", f"{key} takes a whole number from {low} to {high}")
        found[key] = number
    return found


def _change(fleet: Fleet, store: Store, device: str) -> changes.Change:
    def ask(order: dict[str, Any] | None) -> dict[str, Any]:
        request = {"op": "policy", "device": device, "timeout": 10}
        if order is not None:
            request["change"] = order["id"]
        return control_client.call(fleet.control, request, 60)

    def follow() -> None:
        request = {"op": "policy", "device": device, "ended": True}
        notice = control_client.call(fleet.control, request).get("notice")
        if notice:
            click.echo(notice, err=True)

    return changes.Change(store, device, ask, follow)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    return "none" if value is None else str(value)
