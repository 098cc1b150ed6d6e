"""Share between commands the fleet folder, common options and the reload of a running `serve`."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from warden_host import stoppable_output, stopping
from warden_host.cli import recording, screen
from warden_host.errors import HostError
from warden_host.stopping import Stop

if TYPE_CHECKING:
    from warden_host.devices.stage import Report, Stage
    from warden_host.fleet.fleet import Fleet


class State:
    """One call: the global options, and its action in the audit log."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.socket: Path | None = None  # of a fleet that another user serves
        self.outcome = "failed"  # or the code of the error that was shown
        self.json_log = False  # everything is one object a line, errors included
        self._started: recording.Started | None = None

    def fleet(self, by_root: bool = False) -> "Fleet":
        """Open the fleet folder, and record an action before it starts.

        by_root: whether root may give the command for another user's fleet: it reads the fleet,
        and writes elsewhere.
        Raises: fleet-missing and as Fleet(); owner-only where a socket was named instead;
        key-permissions where root would leave files that the owner can't read.
        """
        if self.socket is not None:
            raise HostError("owner-only", "this command works on the fleet's folder")
        from warden_host.fleet.fleet import find  # here, because `--help` needs no fleet

        found = find(self.folder)
        if not by_root and os.geteuid() == 0 != found.root.stat().st_uid:
            hint = "run as the fleet's owner"
            raise HostError("key-permissions", "the fleet belongs to another user", hint)
        if self._started is None:
            self._started = recording.start(found.database)
        return found

    def control(self) -> Path:
        """Return the socket of the running `serve`: the named one, else the fleet's own."""
        return self.fleet().control if self.socket is None else self.socket

    def finish(self, exit_code: int) -> None:
        """Record the outcome of an action that was recorded. Raises database-damaged."""
        started, self._started = self._started, None
        if started is not None:
            started.finish("ok" if exit_code == 0 else self.outcome)


class FiniteRange(click.FloatRange):
    """A number within bounds: NaN is none, which click takes for one within any."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number. Raises click.BadParameter."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


MAX_WAIT_S = 7 * 86400
pass_state = click.make_pass_decorator(State)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def timeout_option(
    default_s: float, most_s: float = MAX_WAIT_S
) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """Return the option --timeout of a command that waits for a device."""
    return click.option(
        "--timeout",
        type=FiniteRange(0, most_s, min_open=True),
        default=default_s,
        show_default=True,
        help="How long to wait, seconds.",
    )


def notify_serve(fleet: "Fleet", device: str = "") -> bool:
    """Make a running `serve` reload the fleet or one device; return False when none runs.

    device: "" for the whole fleet.
    """
    from warden_host import control_client

    try:
        control_client.call(fleet.control, {"op": "reload", "device": device})
    except HostError as error:
        if error.code != "not-serving":
            raise
        return False
    return True


def certificate_reload(fleet: "Fleet") -> Callable[[], None] | None:
    """Return what lets a running broker read certificates anew; None where none runs."""
    from warden_host import control_client

    def reload() -> None:
        control_client.call(fleet.control, {"op": "reload_certificates"})

    try:
        control_client.call(fleet.control, {"op": "online"})
    except HostError as error:
        if error.code != "not-serving":
            raise
        return None
    return reload


@contextmanager
def stoppable(as_json: bool, text: str = "stopped") -> Iterator[Stop]:
    """Yield what Ctrl-C and SIGTERM ask for: the block ends by itself, in order.

    text: shown then.
    """
    with on_signals() as stop:
        yield stop
        if stop.requested:
            screen.stopped(as_json, text=text)


@contextmanager
def on_signals(hard_at: int = 2) -> Iterator[Stop]:
    """Yield a stop as stopping.on_signals(), which no full pipe at standard output holds up."""
    with stopping.on_signals(hard_at) as stop, stoppable_output.until(stop):
        yield stop


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Let SIGTERM interrupt the block as Ctrl-C does, by KeyboardInterrupt.

    Only where this thread asks a person, and no other one runs: see stopping.py.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stage_printer(device: str, as_json: bool) -> "Report":
    """Return what prints the steps of a device's change."""

    def show(stage: "Stage") -> None:
        if as_json:
            screen.print_json({"device": device, "stage": stage.slug, "text": stage})
        else:
            screen.good(stage)

    return show
