"""`warden alarms`: show where the fleet's alarms go, and try it."""

import click

from warden_host.alarms import settings as alarm_settings
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.service import alarm_service


@click.group()
def alarms() -> None:
    """Show where the fleet's alarms go, or send one as a test.

    `[alarms]` in warden.toml sets it.

    \b
    Examples:
      warden alarms show
      warden alarms test
    """


@alarms.command()
@json_option
@pass_state
def show(state: State, as_json: bool) -> None:
    """Show who gets alarms, of which kinds, and from which bounds on.

    \b
    Example:
      warden alarms show --json
    """
    settings, _ = alarm_settings.load(state.fleet())
    record = {
        "mail": list(settings.mail),
        "webhook": settings.webhook,
        "kinds": sorted(settings.kinds),
        "away_hours": settings.away_hours,
        "disk_mib": settings.disk_mib,
        "refused_logins": settings.refused_logins,
    }
    if as_json:
        screen.print_json({"ok": True} | record)
        return
    if not settings.wanted:
        screen.show("no alarms: `[alarms]` in warden.toml names neither mail nor webhook")
        return
    for key, value in record.items():
        screen.show(f"{key:<15}{', '.join(value) if isinstance(value, list) else value}")


@alarms.command()
@json_option
@pass_state
def test(state: State, as_json: bool) -> int:
    """Send a test alarm to all who get alarms; 1 if one of them does not get it.

    \b
    Example:
      warden alarms test
    """
    failed = False
    for one in alarm_service.send_test(state.fleet()):
        failed = failed or bool(one.why)
        to = f"{one.way} {one.to}".strip()
        if as_json:
            screen.print_json({"ok": not one.why} | one._asdict())
        elif one.why:
            screen.show(f"✗ {to}: {one.why}")
        else:
            screen.good(f"{to}: delivered")
    return 1 if failed else 0
