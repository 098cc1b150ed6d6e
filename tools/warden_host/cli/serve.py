"""`warden serve`: run the broker and the authority, and show what happens."""

import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from warden_host.cli import ca_passphrase, listening, screen
from warden_host.cli.common import State, json_option, on_signals, pass_state
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.service import display_queue, sd_notify
from warden_host.service.console import Console, WebAddress
from warden_host.service.run import Service, serving

if TYPE_CHECKING:
    from warden_host.fleet.fleet import Fleet
    from warden_host.metrics.web import PageServer

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
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Show metrics for Prometheus there, below /metrics; a port alone: of loopback.",
)
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="json: one object a line, errors and the broker's end included; as --json.",
)
@click.option(
    "--web",
    "web_text",
    metavar="HOST:PORT",
    help="Also serve the console for browsers there, and the API for web applications: without "
    "TLS on loopback alone.",
)
@click.option(
    "--web-listen",
    metavar="ADDRESS",
    default="",
    help="Listen for browsers there, such as 0.0.0.0, where the host of --web leads through a "
    "NAT.",
)
@json_option
@pass_state
def serve(
    state: State,
    accept_clock: bool,
    passphrase_file: str | None,
    operators: Path | None,
    metrics: str | None,
    log_format: str,
    web_text: str | None,
    web_listen: str,
    as_json: bool,
) -> int:
    """Start the broker and the authority, and show what happens.

    \b
    Examples:
      warden serve
      warden serve --log-format json >> fleet.jsonl
      warden serve --metrics 127.0.0.1:9811
      warden serve --operators /run/warden/home.sock
      warden serve --web 127.0.0.1:8080
      warden serve --web broker.example.net:443 --web-listen 0.0.0.0
    """
    as_json = state.json_log = as_json or log_format == "json"
    if web_listen and web_text is None:
        raise HostError("bad-argument", "--web-listen takes --web HOST:PORT as well")
    web = None if web_text is None else WebAddress(*listening.parse(web_text, "--web"), web_listen)
    fleet = state.fleet()
    passphrase = ca_passphrase.from_file(passphrase_file)  # while a signal ends its wait
    with on_signals() as stop, contextlib.ExitStack() as pages:
        show = _show_json if as_json else _show
        with serving(fleet, show, accept_clock, passphrase, operators, web) as service:
            if sys.stdout.isatty() and not as_json:  # else it may be a log, where no code belongs
                gone = threading.Event()
                pages.callback(gone.set)
                service.authority.codes.console.watch(display_queue.quietly(_show_code), gone)
            if metrics is not None:
                pages.enter_context(contextlib.closing(_metrics(fleet, service, metrics, as_json)))
            broker = fleet.settings.broker
            if as_json:
                started = {"kind": "notice", "time": time.time(), "text": "serving"}
                screen.print_json(started | {"port": broker.port})
            else:
                screen.good(
                    f"serving {fleet.root.name} on {broker.listen}:{broker.port}",
                    "Ctrl-C stops; `warden devices` and `warden send` in another window",
                )
            if service.console is not None:
                _show_console(service.console, as_json)
            sd_notify.notify("READY=1")
            while not stop.wait(_CHECK_S):
                service.check()
                sd_notify.notify("WATCHDOG=1")
            sd_notify.notify("STOPPING=1")
        if as_json:
            screen.print_json({"kind": "notice", "time": time.time(), "text": "stopped"})
        screen.stopped(as_json)
    return 0


def _metrics(fleet: "Fleet", service: Service, address: str, as_json: bool) -> "PageServer":
    with listening.on(address, "--metrics") as (host, port):
        from warden_host.metrics.web import PageServer
        from warden_host.service.metrics import metrics_page

        server = PageServer(host, port, {"/metrics": metrics_page(fleet, service).render})
    listening.show(host, server.port, as_json)
    return server


def _show_console(console: Console, as_json: bool) -> None:
    if as_json:
        started = {"kind": "notice", "time": time.time(), "text": "the console listens"}
        screen.print_json(started | {"url": console.url})
    else:
        screen.good(f"console at {console.url}", "`warden operator login NAME` lets someone in")


def _show(fleet_event: FleetEvent) -> None:
    screen.show(screen.line(fleet_event))


def _show_code(record: dict[str, Any]) -> None:
    screen.show(screen.code_line(record))


def _show_json(fleet_event: FleetEvent) -> None:
    screen.print_json(fleet_event.record())
