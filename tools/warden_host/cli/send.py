"""`warden send`: give a device a command through a running `warden serve`.

Scripts call it often, so it imports little: see tests/host/cli/test_imports.py.
"""

from typing import Any

import click
from rich.text import Text

from warden_host import jsontext, names
from warden_host.cli import refusals, screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.engine.request import FORGERIES, MAX_TTL_S
from warden_host.service import control

MAX_ARGS = 16384
MAX_TIMEOUT_S = 600


class _Send(click.Command):
    """Explain the error of JSON that was not quoted, which the shell splits into arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message:
                raise
            hint = (
                """put JSON in single quotes, such as '{"on": 1}': the shell splits it otherwise"""
            )
            raise click.UsageError(f"{error.message}: {hint}", ctx) from None


@click.command(cls=_Send)
@click.argument("device")
@click.argument("command")
@click.argument("args", metavar="[JSON]", default="{}")
@click.option(
    "--app", default="", help="The application that sends it. Default: one that is allowed to."
)
@click.option(
    "--ttl",
    type=click.IntRange(1, MAX_TTL_S),
    default=30,
    show_default=True,
    help="Seconds until the command expires.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, MAX_TIMEOUT_S, min_open=True),
    default=10.0,
    show_default=True,
    help="How long to wait, seconds.",
)
@click.option(
    "--forge",
    type=click.Choice(sorted(FORGERIES)),
    help="Send a forgery instead, and show how the device refuses it.",
)
@json_option
@pass_state
def send(
    state: State,
    device: str,
    command: str,
    args: str,
    app: str,
    ttl: int,
    timeout: float,
    forge: str | None,
    as_json: bool,
) -> int:
    """Give a device a command and show its reply.

    \b
    Examples:
      warden send front-door set_relay '{"on": 1}'
      warden send front-door get_relay --app home --json
      warden send front-door set_relay '{"on": 1}' --forge replay
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    names.check_verb(command, "command")
    request = {
        "op": "send",
        "device": device,
        "command": command,
        "args": jsontext.parse_object(args, MAX_ARGS),
        "app": app,
        "ttl": ttl,
        "timeout": timeout,
        "forge": forge or "",
    }
    # A forgery takes several steps, one of them up to half a minute long.
    try:
        result = control.call(fleet.control, request, timeout * 4 + 40)
    except KeyboardInterrupt:
        screen.stopped(as_json, screen.err, "stopped waiting; the device may still run it")
        return 130
    if as_json:
        screen.print_json(result)
    else:
        screen.show(outcome(result))
    return 0 if result.get("ok") is True else 1


def outcome(result: dict[str, Any]) -> Text:
    """Return the result of a command or forgery as lines for people."""
    device, command = (
        jsontext.printable(str(result.get(key, ""))) for key in ("device", "command")
    )
    good = result.get("ok") is True
    mark = ("✓ ", "bold green") if good else ("✗ ", "bold red")
    if "forge" in result:
        words = "refused it" if good else "did NOT refuse it"
        text = Text.assemble(
            mark,
            f"{device} {words}: ",
            (jsontext.slug(result.get("verdict")), "bold yellow"),
            (f"  ({result['forge']} {command})", "dim"),
        )
        if "original" in result:
            text.append("\n  the genuine one: " + jsontext.brief(result["original"]), style="dim")
        return text
    reply = result.get("reply")
    if not isinstance(reply, dict):
        reply = {}
    if good:
        result_text = jsontext.brief(reply.get("result"))
        return Text.assemble(mark, f"{device} obeyed {command}: ", (result_text, "bold"))
    return _refused(result, device, command, reply.get("error"))


def _refused(result: dict[str, Any], device: str, command: str, error: Any) -> Text:
    """Show the code of the refusal, its meaning, and what to do."""
    code = jsontext.slug(error)
    means, do = refusals.explain(code, command)
    if code == "not-allowed":
        allowed = [str(verb) for verb in result.get("allowed", ())]
        may = f"; {result.get('app', '')} may: {', '.join(allowed) or 'nothing'}"
        means += jsontext.printable(may)
    return Text.assemble(
        ("✗ ", "bold red"),
        f"{device} refused {command}: ",
        (code, "bold red"),
        f"  {means}",
        (f"\n  → {do}", "dim"),
    )
