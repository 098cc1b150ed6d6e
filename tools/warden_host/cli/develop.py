"""`warden develop`: leave a device's console open for a time, for those who work on it."""

import click

from warden_host import control_client, jsontext, names
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.store.store import Store

_LEAST_S, _MOST_S = 60, 86400


@click.command(short_help="Leave a device's console open to mpremote, for a time.")
@click.argument("device")
@click.option("--seconds", type=int, default=3600, show_default=True, help="60 to 86400.")
@click.option("--end", is_flag=True, help="Close the console again.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@pass_state
def develop(state: State, device: str, seconds: int, end: bool, yes: bool, as_json: bool) -> int:
    """Leave a device's console open to mpremote, for a time: Ctrl-C ends its application.

    Only a device that was provisioned with --development obeys. It restarts, says so at each
    session, and `warden devices` shows it. Anyone at its console has its secrets.

    \b
    Examples:
      warden develop bench-lamp
      warden develop bench-lamp --seconds 600
      warden develop bench-lamp --end
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    if not end and not _LEAST_S <= seconds <= _MOST_S:
        raise HostError("bad-argument", f"the time is not between {_LEAST_S} and {_MOST_S} s")
    with Store(fleet.database) as store:
        known = store.device(device)
    allowed = policy.parse(known.policy).get("development", False)
    if known.mode != "sealed" or not allowed:
        raise HostError(
            "not-applicable",
            f"the policy of {device} forbids development mode"
            if known.mode == "sealed"
            else f"{device} is plain: it takes no orders",
            "only `warden provision --development` allows it",
        )
    if not end:
        question = f"Anyone at the console of {device} then has its secrets. Open it?"
        screen.confirm(question, yes, as_json)
    request = {"op": "develop", "device": device, "seconds": 0 if end else seconds, "timeout": 10}
    answer = control_client.call(fleet.control, request, 60)
    if answer.get("ok") is not True:
        code = jsontext.slug(answer.get("reply", {}).get("error"))
        raise HostError("command-refused", f"{device} refused development mode: {code}")
    if as_json:
        screen.print_json({"ok": True, "device": device, "seconds": request["seconds"]})
    elif end:
        screen.good(f"{device} restarts with its console closed")
    else:
        screen.good(f"{device} restarts with its console open, for {seconds} seconds")
    return 0
