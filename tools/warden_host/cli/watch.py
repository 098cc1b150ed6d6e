"""`warden watch`: show what a running `warden serve` reports."""

from typing import Any

import click

from warden_host import control_client
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state, stoppable
from warden_host.engine.events import KINDS, FleetEvent
from warden_host.errors import HostError


@click.command()
@json_option
@pass_state
def watch(state: State, as_json: bool) -> int:
    """Show what happens in the fleet, live.

    \b
    Examples:
      warden watch
      warden watch --json | jq 'select(.kind == "incident")'
    """
    path = state.control()
    with stoppable(as_json) as stop:
        for line in control_client.stream(path, {"op": "watch"}, stop=stop):
            if as_json:
                screen.print_json(line)
            else:
                screen.show(screen.line(fleet_event(line)))
        if not stop.requested:
            raise HostError(
                "not-serving", "`warden serve` has stopped", "start it again, then `warden watch`"
            )
    return 0


def fleet_event(line: dict[str, Any]) -> FleetEvent:
    """Return an event that `warden serve` sent. Raises control-malformed."""
    known = {key: value for key, value in line.items() if key in FleetEvent.__dataclass_fields__}
    if known.get("kind") not in KINDS:
        raise HostError("control-malformed", "`warden serve` is of another version")
    return FleetEvent(**known)
