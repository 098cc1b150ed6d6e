"""The commands that need the fleet at work: serve, run, send, watch."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.text import Text

from warden_host import jsontext, names
from warden_host.cli import pin, refusals, screen
from warden_host.cli.common import State, interruptible, json_option, pass_state
from warden_host.engine.events import KINDS, FleetEvent
from warden_host.engine.request import FORGERIES, MAX_TTL_S
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.service import control, display_queue
from warden_host.service.run import serving
from warden_host.sim import keypad, simulated
from warden_host.store.store import Store

MAX_ARGS = 16384
MAX_TIMEOUT_S = 600


def add_to(group: click.Group) -> None:
    for command in (serve, run, send, watch):
        group.add_command(command)


@click.command()
@click.option(
    "--accept-clock",
    is_flag=True,
    help="This machine's clock is right, although it does not follow from the time last served.",
)
@json_option
@pass_state
def serve(state: State, accept_clock: bool, as_json: bool) -> int:
    """Start the broker and the authority, and show what happens.

    \b
    Examples:
      warden serve
      warden serve --json | tee fleet.jsonl
    """
    fleet = state.fleet()
    with _stopped() as stop:
        with serving(fleet, _show_json if as_json else _show, accept_clock) as service:
            if sys.stdout.isatty() and not as_json:  # else it may be a log, where no code belongs
                service.authority.codes.console.watch(display_queue.quietly(_show_code), stop)
            broker = fleet.settings.broker
            if as_json:
                started = {"kind": "notice", "time": time.time(), "text": "serving"}
                screen.print_json(started | {"port": broker.port})
            else:
                screen.good(
                    f"serving {fleet.root.name} on {broker.listen}:{broker.port}",
                    "Ctrl-C stops; `warden run DEVICE` and `warden send` in another window",
                )
            while not stop.wait(0.5):
                service.check()
        screen.stopped(as_json)
    return 0


@click.command()
@click.argument("device")
@click.option("--heapsize", default="", metavar="N", help="MicroPython's heap, such as 128k.")
@click.option("--once", is_flag=True, help="Don't start it again when it resets.")
@click.option(
    "--pin-file",
    metavar="FILE",
    help="Where its root key wants a PIN: read it from a file (mode 600), or from standard input: -. Default: ask.",
)
@json_option
@pass_state
def run(
    state: State, device: str, heapsize: str, once: bool, pin_file: str | None, as_json: bool
) -> int:
    """Start a simulated device: the real firmware on the unix port.

    \b
    Examples:
      warden run front-door
      warden run front-door --heapsize 128k --once

    \b
    A device that asks for a code shows its keypad and display; its keys can be piped in as well:
      (sleep 5; echo '123456#') | warden run front-door
    """
    fleet = state.fleet()
    home = fleet.simulated(device)
    if heapsize and not heapsize.rstrip("kKmM").isdigit():
        raise HostError("bad-argument", "--heapsize is a number with k or m, such as 128k")

    simulated.check(home)
    with Store(fleet.database) as store:
        known = store.find(device)
    gated = known is not None and policy.gate(known.policy) is not None
    typed = pin.read(home / "root" / "lib" / "board.py", pin_file, new=False)

    def show(text: str) -> None:
        if shown(text):
            return
        if as_json:
            screen.print_json({"device": device, "line": text.rstrip()})
            return
        line = Text.assemble((f"{device} ", "bold blue"), text)
        line.rstrip()
        screen.show(line)

    with interruptible(as_json), keypad.open_keypad(gated, as_json) as (keyboard, shown):
        return simulated.run(home, heapsize, once, show, typed, keyboard)
    return 0


class _Send(click.Command):
    """JSON that was not quoted falls apart into arguments: say so, click can't know."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message:
                raise
            hint = (
                """put JSON in single quotes, such as '{"on": 1}'; the shell takes it apart else"""
            )
            raise click.UsageError(f"{error.message}: {hint}", ctx) from None


@click.command(cls=_Send)
@click.argument("device")
@click.argument("command")
@click.argument("args", metavar="[JSON]", default="{}")
@click.option("--app", default="", help="The application that gives it. Default: one that may.")
@click.option(
    "--ttl",
    type=click.IntRange(1, MAX_TTL_S),
    default=30,
    show_default=True,
    help="The command's life, seconds.",
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
        screen.stopped(as_json, screen.err, "stopped waiting; the device may still obey")
        return 130
    if as_json:
        screen.print_json(result)
    else:
        screen.show(_outcome(result))
    return 0 if result.get("ok") is True else 1


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
    fleet = state.fleet()
    with interruptible(as_json):
        for line in control.stream(fleet.control, {"op": "watch"}):
            if as_json:
                screen.print_json(line)
            else:
                screen.show(screen.line(_happening(line)))
        raise HostError(
            "not-serving", "`warden serve` has stopped", "start it again, then `warden watch`"
        )
    return 0


def _show(fleet_event: FleetEvent) -> None:
    screen.show(screen.line(fleet_event))


def _show_code(record: dict[str, Any]) -> None:
    screen.show(screen.code_line(record))


def _show_json(fleet_event: FleetEvent) -> None:
    screen.print_json(fleet_event.record())


def _happening(line: dict[str, Any]) -> FleetEvent:
    known = {key: value for key, value in line.items() if key in FleetEvent.__dataclass_fields__}
    if known.get("kind") not in KINDS:
        raise HostError("control-malformed", "`warden serve` is of another version")
    return FleetEvent(**known)


def _outcome(result: dict[str, Any]) -> Text:
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
        said = jsontext.brief(reply.get("result"))
        return Text.assemble(mark, f"{device} obeyed {command}: ", (said, "bold"))
    return _refused(result, device, command, reply.get("error"))


def _refused(result: dict[str, Any], device: str, command: str, error: Any) -> Text:
    """The device's own word for it, what that means, and what to do."""
    code = jsontext.slug(error)
    means, do = refusals.explain(code)
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


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """Set by SIGINT or SIGTERM: whoever waits on it ends in order."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
