"""The commands that need the fleet at work: serve, run, send, watch."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.text import Text

from warden_host import control, jsontext, names, screen, simulated
from warden_host.cli_common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.happening import KINDS, Happening
from warden_host.sending import FORGERIES
from warden_host.serving import serving

MAX_ARGS = 16384


def add_to(group: click.Group) -> None:
    for command in (serve, run, send, watch):
        group.add_command(command)


@click.command()
@json_option
@pass_state
def serve(state: State, as_json: bool) -> int:
    """Start the broker and the authority, and show what happens.

    \b
    Examples:
      warden serve
      warden serve --json | tee fleet.jsonl
    """
    fleet = state.fleet()
    with _stopped() as stop:
        with serving(fleet, _show_json if as_json else _show) as service:
            broker = fleet.settings.broker
            if as_json:
                screen.print_json({"kind": "notice", "text": "serving", "port": broker.port})
            else:
                screen.good(
                    f"serving {fleet.root.name} on {broker.listen}:{broker.port}",
                    "Ctrl-C stops; `warden run DEVICE` and `warden send` in another window",
                )
            while not stop.wait(0.5):
                service.check()
        if not as_json:
            screen.good("stopped")
    return 0


@click.command()
@click.argument("device")
@click.option("--heapsize", default="", metavar="N", help="MicroPython's heap, such as 128k.")
@click.option("--once", is_flag=True, help="Don't start it again when it resets.")
@pass_state
def run(state: State, device: str, heapsize: str, once: bool) -> int:
    """Start a simulated device: the real firmware on the unix port.

    \b
    Examples:
      warden run D1
      warden run D1 --heapsize 128k --once
    """
    home = state.fleet().simulated(device)
    if heapsize and not heapsize.rstrip("kKmM").isdigit():
        raise HostError("bad-argument", "--heapsize is a number with k or m, such as 128k")

    def show(text: str) -> None:
        screen.show(Text.assemble((f"{device} ", "bold blue"), text))

    with _interruptible():
        return simulated.run(home, heapsize, once, show)


@click.command()
@click.argument("device")
@click.argument("command")
@click.argument("args", metavar="[JSON]", default="{}")
@click.option("--app", default="", help="The application that gives it. Default: one that may.")
@click.option("--ttl", default=30, show_default=True, help="The command's life, seconds.")
@click.option("--timeout", default=10.0, show_default=True, help="How long to wait, seconds.")
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
      warden send D1 set_relay '{"on": 1}'
      warden send D1 get_relay --app lights --json
      warden send D1 set_relay '{"on": 1}' --forge replay
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
    result = control.call(fleet.control, request, timeout * 4 + 40)
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
    with _interruptible():
        for line in control.stream(fleet.control, {"op": "watch"}):
            if as_json:
                screen.print_json(line)
            else:
                screen.show(screen.line(_happening(line)))
    raise HostError("not-serving", "`warden serve` has stopped")


def _show(happening: Happening) -> None:
    screen.show(screen.line(happening))


def _show_json(happening: Happening) -> None:
    screen.print_json(happening.record())


def _happening(line: dict[str, Any]) -> Happening:
    known = {key: value for key, value in line.items() if key in Happening.__dataclass_fields__}
    if known.get("kind") not in KINDS:
        raise HostError("control-malformed", "`warden serve` is of another version")
    return Happening(**known)


def _outcome(result: dict[str, Any]) -> Text:
    device, command = result.get("device", ""), result.get("command", "")
    good = result.get("ok") is True
    mark = ("✓ ", "bold green") if good else ("✗ ", "bold red")
    if "forge" in result:
        words = "refused it" if good else "did NOT refuse it"
        text = Text.assemble(
            mark,
            f"{device} {words}: ",
            (str(result.get("verdict", "")), "bold yellow"),
            (f"  ({result['forge']} {command})", "dim"),
        )
        if "original" in result:
            text.append("\n  the genuine one: " + jsontext.dump(result["original"]), style="dim")
        return text
    reply = result.get("reply", {})
    said = reply.get("result") if good else reply.get("error", reply)
    words = "obeyed" if good else "refused"
    return Text.assemble(mark, f"{device} {words} {command}: ", (jsontext.dump(said), "bold"))


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


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does: through every `finally`, so no child is left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
