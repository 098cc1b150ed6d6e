"""Share between commands the fleet folder, common options and the reload of a running `serve`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from warden_host.cli import screen
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet, find
from warden_host.service import control


class State:
    """The global options. fleet() opens the fleet's folder."""

    def __init__(self, folder: str | None) -> None:
        self._folder = Path(folder) if folder else None

    def fleet(self) -> Fleet:
        """Open the fleet folder. Raises fleet-missing and as Fleet()."""
        return find(self._folder)


pass_state = click.make_pass_decorator(State)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def notify_serve(fleet: Fleet, device: str = "") -> bool:
    """Make a running `serve` reload the fleet or one device; return False when none runs.

    device: "" for the whole fleet.
    """
    try:
        control.call(fleet.control, {"op": "reload", "device": device})
    except HostError as error:
        if error.code != "not-serving":
            raise
        return False
    return True


@contextmanager
def interruptible(as_json: bool, text: str = "stopped") -> Iterator[None]:
    """End the block on Ctrl-C and SIGTERM through every `finally`, so that no child remains.

    text: shown then.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        screen.stopped(as_json, text=text)
    finally:
        signal.signal(signal.SIGTERM, before)
