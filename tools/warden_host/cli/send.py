"""`warden send`: give a device a command through a running `warden serve`.

Scripts call it often, so it imports little: see tests/host/cli/test_imports.py.
"""

from typing import TYPE_CHECKING, Any

import click

from warden_host import control_client, jsontext, names
from warden_host.cli import exit_codes, refusals, screen, targets
from warden_host.cli.common import State, json_option, pass_state, timeout_option
from warden_host.cli.targets import Targets
from warden_host.engine.request import FORGERIES, MAX_TTL_S
from warden_host.errors import HostError

if TYPE_CHECKING:
    from rich.text import Text

    from warden_host.fleet.fleet import Fleet

MAX_ARGS = 16384
MAX_TIMEOUT_S = 600
MAX_TOKEN = 8192


class _Send(click.Command):
    """Explain the error of JSON that was not quoted, which the shell splits into arguments.

    Where options name many devices, the argument DEVICE is left out.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if targets.names_many(args):
            args = ["", *args]
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
@timeout_option(10.0, MAX_TIMEOUT_S)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Speak with the rights of this token (mode 600, or standard input: -) alone.",
)
@click.option(
    "--forge",
    type=click.Choice(sorted(FORGERIES)),
    help="Send a forgery instead, and show how the device refuses it.",
)
@targets.options
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
    token_file: str | None,
    forge: str | None,
    targets: Targets,
    as_json: bool,
) -> int:
    """Give a device a command and show its reply.

    For a device that sleeps, `warden serve` holds the command until it is awake, or until --ttl is
    over: `warden watch` shows the reply.

    \b
    Examples:
      warden send front-door set_relay '{"on": 1}'
      warden send front-door get_relay --app home --json
      warden send tank-7 set_interval '{"s": 600}' --ttl 7200
      warden send front-door set_relay '{"on": 1}' --forge replay
      warden send front-door get_relay --token-file home.token
      warden send --group ground-floor set_relay '{"on": 0}' --max-failures 3
    """
    several = targets.many(device)
    if not several:
        names.check_id(device, "device ID")
    path = state.fleet().control if several else state.control()
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
        "hold": True,
    }
    if token_file is not None:
        from warden_host.cli import secrets_input

        data = secrets_input.secret(token_file, "token", "--token-file", MAX_TOKEN, new=False)
        request["token"] = data.decode(errors="replace")
    # A forgery takes several steps, one of them up to half a minute long.
    patience_s = timeout * 4 + 40
    if several:
        if forge:
            raise click.UsageError("--forge shows one device's answer: name it")
        return _to_many(state.fleet(), targets, request, patience_s, as_json)
    try:
        result = control_client.call(path, request, patience_s)
    except KeyboardInterrupt:
        screen.stopped(as_json, screen.err, "stopped waiting; the device may still run it")
        return exit_codes.INTERRUPTED
    error = _refusal(result)
    code = exit_codes.DONE if error is None else exit_codes.of(error)
    if as_json:
        found = {} if error is None else {"error": screen.error_record(error)}
        screen.print_json(result | found)
    else:
        screen.show(outcome(result))
    return code


def _to_many(
    fleet: "Fleet", targets: Targets, request: dict[str, Any], patience_s: float, as_json: bool
) -> int:
    from warden_host.cli import many, runner

    def act(device: str) -> dict[str, Any]:
        result = control_client.call(fleet.control, request | {"device": device}, patience_s)
        error = _refusal(result)
        if error is not None:
            raise error
        return {key: result[key] for key in ("reply", "held") if key in result}

    words = [request[key] for key in ("op", "command", "args", "app")]
    return many.run(fleet, targets, runner.Order(words, act), as_json)


def _refusal(result: dict[str, Any]) -> HostError | None:
    """Return the error of a command that the device refused, or of a forgery that it took."""
    if result.get("ok") is True:
        return None
    if "forge" in result:
        return HostError("internal-error", "the device did not refuse the forgery")
    device, command, reply = (result.get(key) for key in ("device", "command", "reply"))
    code = jsontext.slug(reply.get("error") if isinstance(reply, dict) else None)
    means, do = refusals.explain(code, str(command))
    return HostError("command-refused", f"{device} refused {command}: {code}, {means}", do)


def outcome(result: dict[str, Any]) -> "Text":
    """Return the result of a command or forgery as lines for people."""
    from rich.text import Text

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
    if result.get("held") is True:
        words = f"{device} sleeps: {command} waits until it is awake, or expires"
        return Text.assemble(mark, words)
    reply = result.get("reply")
    if not isinstance(reply, dict):
        reply = {}
    if good:
        result_text = jsontext.brief(reply.get("result"))
        return Text.assemble(mark, f"{device} obeyed {command}: ", (result_text, "bold"))
    return _refused(result, device, command, reply.get("error"))


def _refused(result: dict[str, Any], device: str, command: str, error: Any) -> "Text":
    """Show the code of the refusal, its meaning, and what to do."""
    from rich.text import Text

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
