"""`warden policy`: show a device's policy; change its limits, outbox and brokers over the link."""

from typing import Any

import click

from warden_host import control_client, filelock, names
from warden_host.cli import common, screen
from warden_host.cli.common import State, json_option, pass_state, timeout_option
from warden_host.devices import policies as changes
from warden_host.errors import HostError
from warden_host.fleet import servers
from warden_host.fleet.fleet import Fleet
from warden_host.numerals import decimal
from warden_host.protocol import policy
from warden_host.store.store import Device, Store

_BOUNDS = ", ".join(
    "{} {} to {}".format(key, *policy.limit(key)[:2]) for key in sorted(policy.LIMITS)
)

_INCIDENTS = ", ".join(
    [
        *("{} {} to {}".format(key, *bounds) for key, bounds in policy.INCIDENT_BOUNDS.items()),
        *(f"{key} {' or '.join(each)}" for key, each in policy.INCIDENT_REACTIONS.items()),
    ]
)


@click.group("policy", short_help="Show a device's policy, or change it over the link.")
def policies() -> None:
    """Show a device's policy, or change its limits, outbox and brokers over the link.

    \b
    Examples:
      warden policy show front-door
      warden policy set meter-7 stall_ms=30000 handshake_ms=60000
      warden policy set meter-7 outbox=32 outbox_keep=reboot
      warden policy set meter-7 servers=hub-1.example:8883,hub-2.example:8883
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
    values = _whole(known.policy)
    following = None if known.next_policy is None else _whole(known.next_policy)
    if as_json:
        screen.print_json({"ok": True, "device": device, "policy": values, "trying": following})
        return
    screen.show(f"policy of {device}:")
    for key, value in values.items():
        tried = (
            "" if following is None or following[key] == value else f"   tries {following[key]}"
        )
        screen.show(f"  {key:16} {_shown(value)}{tried}")


def _whole(record: bytes) -> dict[str, Any]:
    """Return a record's values, and those of the connection that older versions leave out."""
    whole = policy.parse(record) | policy.connection(record)
    return whole | {"incidents": policy.incidents(record)}


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
@timeout_option(600.0)
@json_option
@pass_state
def set_command(
    state: State, device: str, values: tuple[str, ...], timeout: float, as_json: bool
) -> int:
    fleet = state.fleet()
    names.check_id(device, "device ID")
    changed, listed = _values(values)
    with Store(fleet.database) as store:
        known = store.device(device)
        if known.mode != "sealed":
            raise HostError(
                "not-applicable",
                f"{device} is plain: its policy is changed at the bench alone",
                "provision it again",
            )
        brokers = changes.brokers(fleet, known, listed) if listed else ()

        report = common.stage_printer(device, as_json)

        lock = _try_lock(fleet, device)
        if lock is None:
            raise HostError(
                "not-applicable",
                f"another `warden` changes the policy of {device} just now",
                "wait until it has ended",
            )
        with lock:
            _change(fleet, store, device).make(changed, report, timeout, brokers)
    told = changed | ({"servers": [f"{one[0]}:{one[1]}" for one in brokers]} if brokers else {})
    if as_json:
        screen.print_json({"ok": True, "device": device, "changed": told})
    else:
        screen.good(
            f"{device} has proved its new policy",
            ", ".join(f"{key} {_shown(value)}" for key, value in told.items()),
        )
    return 0


set_command.help = f"""Change a device's policy over the link: limits, outbox, brokers.

The device keeps its old policy until its session came up under the new one. After three tries
without one, or two rounds of new brokers, it goes back to it. All other values are set at
provisioning alone.

Limits: {_BOUNDS}.

Outbox (docs/telemetry.md): outbox 0 to {policy.OUTBOX_MOST} events, outbox_keep
{" or ".join(policy.OUTBOX_KEEP)}, outbox_drop {" or ".join(policy.OUTBOX_DROP)}. A smaller one
drops the oldest events that wait, none drops all; the device reports how many.

Incidents (docs/protocol.md, Reactions), each written as incidents.KEY: {_INCIDENTS}.

Brokers (docs/brokers.md): servers, as `--server` of `warden provision` takes them.

\b
Examples:
  warden policy set meter-7 stall_ms=30000 handshake_ms=60000
  warden policy set meter-7 keepalive_s=25
  warden policy set meter-7 outbox=32 outbox_keep=reboot
  warden policy set meter-7 servers=hub-1.example:8883=2,hub-2.example:8883=1
"""

_PREFIX = "incidents."
_CHOICES = {"outbox_keep": policy.OUTBOX_KEEP, "outbox_drop": policy.OUTBOX_DROP}


def _values(texts: tuple[str, ...]) -> tuple[dict[str, Any], tuple[servers.Server, ...]]:
    """Return the policy's values that the arguments name, and the brokers. Raises bad-argument."""
    found: dict[str, Any] = {}
    listed: tuple[servers.Server, ...] = ()
    for text in texts:
        key, _, value = text.partition("=")
        if key.startswith(_PREFIX):
            terms = found.setdefault("incidents", {})
            terms[key.removeprefix(_PREFIX)] = _incident_term(key.removeprefix(_PREFIX), value)
        elif key == "servers":
            listed = servers.parse(value.split(","))
        elif key in _CHOICES:
            if value not in _CHOICES[key]:
                raise HostError("bad-argument", f"{key} is {' or '.join(_CHOICES[key])}")
            found[key] = value
        elif key in policy.LIMITS or key == "outbox":
            low, high = (0, policy.OUTBOX_MOST) if key == "outbox" else policy.limit(key)[:2]
            number = decimal(value, high, low)
            if number is None:
                raise HostError("bad-argument", f"{key} takes a whole number from {low} to {high}")
            found[key] = number
        else:
            incidents = (_PREFIX + one for one in policy.INCIDENT_DEFAULTS)
            known = (*policy.LIMITS, *policy.OUTBOX, *incidents, "servers")
            raise HostError(
                "bad-argument",
                f"{key!r} can't be changed over the link",
                f"these can: {', '.join(known)}; others by `warden provision --again`",
            )
    return found, listed


def _incident_term(key: str, value: str) -> int | str:
    """Return a term of incidents. Raises bad-argument."""
    if key in policy.INCIDENT_BOUNDS:
        low, high = policy.INCIDENT_BOUNDS[key]
        number = decimal(value, high, low)
        if number is not None:
            return number
        raise HostError("bad-argument", f"{key} takes a whole number from {low} to {high}")
    if value in policy.INCIDENT_REACTIONS.get(key, ()):
        return value
    raise HostError("bad-argument", f"{key} {value} is none of: {_INCIDENTS}")


def _change(fleet: Fleet, store: Store, device: str) -> changes.Change:
    def ask(order: dict[str, Any] | None) -> dict[str, Any]:
        request: dict[str, Any] = {"op": "policy", "device": device, "timeout": 10}
        if order is not None:
            request |= {"change": order["id"]}
            if "brokers" in order:
                request["brokers"] = order["brokers"]
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
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    return "none" if value is None else str(value)
