"""`warden serve`: run the broker and the authority, and show what happens."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from warden_host.cli import ca_passphrase, screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.engine.events import FleetEvent
from warden_host.service import display_queue, sd_notify
from warden_host.service.run import serving

_CHECK_S = 0.5


@click.command()
@click.option(
    "--accept-clock",
    is_flag=True,
    help="Trust this machine's clock, although it differs from the time last served.",
)
@click.option(
    "--passphrase-file",
    metavar="FILE",
    help="The passphrase of the devices' CA, where its key has one, for the revocation list: from "
    "a file (mode 600), or from standard input: -.",
)
@click.option(
    "--operators",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Also serve the `warden operator`s, at a socket in a folder that they can enter.",
)
@json_option
@pass_state
def serve(
    state: State,
    accept_clock: bool,
    passphrase_file: str | None,
    operators: Path | None,
    as_json: bool,
) -> int:
    """Start the broker and the authority, and show what happens.

    \b
    Examples:
      warden serve
      warden serve --json | tee fleet.jsonl
      warden serve --operators /run/warden/home.sock
    """
    fleet = state.fleet()
    with _stopped() as stop:
        show = _show_json if as_json else _show
        passphrase = ca_passphrase.from_file(passphrase_file)
        with serving(fleet, show, accept_clock, passphrase, operators) as service:
            if sys.stdout.isatty() and not as_json:  # else it may be a log, where no code belongs
                service.authority.codes.console.watch(display_queue.quietly(_show_code), stop)
            broker = fleet.settings.broker
            if as_json:
                started = {"kind": "notice", "time": time.time(), "text": "serving"}
                screen.print_json(started | {"port": broker.port})
            else:
                screen.good(
                    f"serving {fleet.root.name} on {broker.listen}:{broker.port}",
                    "Ctrl-C stops; `warden devices` and `warden send` in another window",
                )
            sd_notify.notify("READY=1")
            while not stop.wait(_CHECK_S):
                service.check()
                sd_notify.notify("WATCHDOG=1")
            sd_notify.notify("STOPPING=1")
        screen.stopped(as_json)
    return 0


def _show(fleet_event: FleetEvent) -> None:
    screen.show(screen.line(fleet_event))


def _show_code(record: dict[str, Any]) -> None:
    screen.show(screen.code_line(record))


def _show_json(fleet_event: FleetEvent) -> None:
    screen.print_json(fleet_event.record())


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """Yield an event that SIGINT or SIGTERM sets, so that `serve` ends in order."""
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
