"""`warden unlock`: open the gate of a device from here, sealed."""

from pathlib import Path
from typing import Any

import click

from warden_host import control_client, jsontext, names
from warden_host.cli import refusals, screen, targets
from warden_host.cli.common import State, json_option, pass_state
from warden_host.cli.targets import Targets
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.store.store import Device, Store


@click.command(short_help="Open a device's gate from here.")
@click.argument("device", required=False)
@targets.options
@json_option
@pass_state
def unlock(state: State, device: str | None, targets: Targets, as_json: bool) -> int:
    """Open a device's gate from here, sealed: for an owner at the device who has no code.

    The gate is what waits for a code before the device's application starts. A
    lock's own bolt is the application's: `warden send DEVICE COMMAND`.

    \b
    Examples:
      warden unlock front-door
      warden unlock --group ground-floor
    """
    if targets.many(device):
        from warden_host.cli import many, runner

        fleet = state.fleet()

        def act(one: str) -> dict[str, Any]:
            _unlock(fleet.control, one)
            return {}

        def fits(known: Device) -> str:
            return "revoked" if known.ending else _why_not(known)[0]

        return many.run(fleet, targets, runner.Order(["unlock"], act, fits), as_json)
    name = names.check_id(device or "", "device ID")
    if state.socket is None:
        _check_gate(state.fleet(), name)
    _unlock(state.control(), name)
    if as_json:
        screen.print_json({"ok": True, "device": name})
    else:
        screen.good(f"{name} is open")
    return 0


def _unlock(socket: Path, device: str) -> None:
    """Give the order. Raises command-refused, and as control_client.call()."""
    answer = control_client.call(socket, {"op": "unlock", "device": device, "timeout": 10}, 60)
    if answer.get("ok") is not True:
        error = jsontext.slug(answer.get("reply", {}).get("error"))
        means, do = refusals.explain(error, "warden_unlock")
        raise HostError("command-refused", f"{device} did not open: {error}, {means}", do)


def _check_gate(fleet: Fleet, device: str) -> None:
    """Raise not-applicable if the device's policy lets nothing be opened from here."""
    with Store(fleet.database) as store:
        why, hint = _why_not(store.device(device))
    if why:
        raise HostError("not-applicable", f"{device} {why}", hint)


def _why_not(known: Device) -> tuple[str, str]:
    """Return why the device can't be opened from here, and a hint; ("", "") where it can."""
    gate = policy.gate(known.policy)
    if gate is None:
        return "has no gate", "nothing to open; `warden provision --otp` adds one"
    if known.mode != "sealed":
        return "is in plain mode", "type a code at its keypad"
    if not gate["unlock"]:
        return "does not allow remote unlocking", "type a code at its keypad"
    return "", ""
