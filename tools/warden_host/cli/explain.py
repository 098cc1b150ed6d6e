"""`warden explain`: say what an error code means and what to do, without a network."""

from dataclasses import asdict

import click

from warden_host.cli import exit_codes, screen
from warden_host.cli.common import json_option
from warden_host.errors import CODES, HostError
from warden_host.fleet import errors_page


@click.command(short_help="Say what an error code means and what to do.")
@click.argument("code", required=False)
@json_option
def explain(code: str | None, as_json: bool) -> None:
    """Say what an error code means and what to do; without a code, list all.

    The codes of devices are among them: those in incidents and on a console.

    \b
    Examples:
      warden explain tampered
      warden explain pin-mismatch --json
      warden explain | grep certificate
    """
    if code is None:
        for one in errors_page.entries().values():
            if as_json:
                screen.print_json(_record(one))
            else:
                click.echo(f"{one.code:<26} {one.means}")
        return
    found = errors_page.entry(code)
    if as_json:
        screen.print_json(_record(found))
        return
    side = "a device, or the host" if found.side == "device" else "the host"
    kind = f"a {found.class_name} of {side}"
    if found.class_name == "Progress":
        kind = "progress in a device's log"
    click.echo(f"{found.code}: {kind}\n")
    for text in (found.means, "→ " + found.do):
        click.echo(click.wrap_text(text, screen.width(), "  ", "  "))


def _record(found: errors_page.Entry) -> dict[str, object]:
    """Return an entry for JSON, with the exit code of `warden` where the host raises the code."""
    raised = {found.code} <= CODES
    extra = {"exit_code": exit_codes.of(HostError(found.code))} if raised else {}
    return asdict(found) | extra
