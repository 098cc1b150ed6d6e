"""`warden log`: show what fleet.db keeps of the past."""

import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from warden_host import control_client, names
from warden_host.broker.logins import Knock
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state, stoppable
from warden_host.cli.watch import fleet_event
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.service.past import KINDS, LOGIN, USUAL, entries, event_body, record
from warden_host.stopping import Stop
from warden_host.store.history import Entry
from warden_host.store.store import Store

MAX_LINES = 100_000
_AGE = re.compile(r"([0-9]{1,6})\s*(s|min|m|h|d|w)\Z")
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@click.command(short_help="Show what happened: events, incidents, rollouts, orders.")
@click.argument("device", required=False, default="")
@click.option(
    "--since", default="", metavar="TIME", help="Not before: 90min, 12h, 3d, 2026-11-29."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help="Only this kind. Repeatable.",
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1, MAX_LINES),
    default=100,
    show_default=True,
    help="The newest so many.",
)
@click.option("--follow", is_flag=True, help="Go on with what happens from now, as `watch`.")
@json_option
@pass_state
def log(
    state: State,
    device: str,
    since: str,
    kinds: tuple[str, ...],
    lines: int,
    follow: bool,
    as_json: bool,
) -> int:
    """Show what the fleet's database keeps of the past, the newest at the end.

    Of each device it keeps the newest 1,000 events and 200 kinds of incidents;
    repeats of an incident are counted. A device that left the fleet keeps them.

    \b
    Kinds:
      event        what a device published
      incident     what a device reports that it refused or that failed
      record       the same one by one, with numbers: the device's own log
                   (not shown unless it is asked for)
      refused      what the authority refused of a device
      rollout      a step of a rollout
      order        an order to revoke or wipe a device
      certificate  one that was issued or revoked
      login        a log-in that the broker refused, as long as its log has it

    \b
    Examples:
      warden log
      warden log front-door --since 12h --kind incident
      warden log front-door --kind record
      warden log --kind refused --json | jq .code
      warden log front-door --follow
    """
    fleet = state.fleet()
    if device:
        names.check_id(device, "device ID")
    begin = moment(since, time.time()) if since else 0.0
    with Store(fleet.database) as store:
        found = entries(fleet, store, device, begin, kinds or USUAL, lines)
        if device and not found:
            store.device(device)  # a name that was mistyped is no empty log
    for entry in found:
        if as_json:
            screen.print_json(record(entry))
        else:
            screen.show(screen.line(as_event(entry), with_day=True))
    if follow:
        _follow(fleet, device, kinds, as_json)
    elif not found and not as_json:
        screen.show("nothing is kept of that")
    return 0


def moment(text: str, now: float) -> float:
    """Return the unix seconds of an age or a date. Raises bad-argument."""
    age = _AGE.match(text)
    if age is not None:
        return now - int(age[1]) * _SECONDS[age[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise HostError(
            "bad-argument", f"{text[:40]!r} is no time", "such as 90min, 12h, 3d or 2026-11-29"
        ) from None


def as_event(entry: Entry | Knock) -> FleetEvent:
    """Return an entry as `warden watch` shows it."""
    if isinstance(entry, Knock):
        again = f", {entry.n} times since {screen.day(entry.first)}" if entry.n > 1 else ""
        text = entry.text + again
        return FleetEvent(LOGIN, code=entry.code, text=text, time=entry.time)
    common: dict[str, Any] = {"device": entry.device, "time": entry.time}
    if entry.kind == "event":
        return FleetEvent(
            "event", app=entry.app, name=entry.name, body=event_body(entry), **common
        )
    if entry.kind in ("incident", "record", "refused"):
        since = f"since {screen.day(entry.first)}" if entry.n > 1 else ""
        if entry.kind == "record":
            since = f"record {entry.text}"
        body = {"n": entry.n} | ({"source": entry.app} if entry.app else {})
        kind = "refused" if entry.kind == "refused" else "incident"
        return FleetEvent(kind, name=entry.name, code=entry.code, body=body, text=since, **common)
    words = {
        "rollout": f"rollout of {entry.text}: {entry.name} {entry.code}".rstrip(),
        "order": f"ordered: {entry.name}",
        "certificate": f"certificate {entry.text[:16]} {entry.name}",
    }
    return FleetEvent("notice", text=words[entry.kind], **common)


def _follow(fleet: Fleet, device: str, kinds: tuple[str, ...], as_json: bool) -> None:
    with stoppable(as_json) as stop:
        for one in _live(fleet, device, kinds, stop):
            if as_json:
                screen.print_json(one.record())
            else:
                screen.show(screen.line(one, with_day=True))
        if not stop.requested:
            raise HostError(
                "not-serving", "`warden serve` has stopped", "start it again, then `warden log`"
            )


def _live(fleet: Fleet, device: str, kinds: tuple[str, ...], stop: Stop) -> Iterator[FleetEvent]:
    """Yield what happens to the device, of these kinds; () for all kinds, those of `watch` too."""
    for line in control_client.stream(fleet.control, {"op": "watch"}, stop=stop):
        one = fleet_event(line)
        if device in ("", one.device) and (not kinds or one.kind in kinds):
            yield one
