"""What the commands share: the fleet they work on, and how to tell a running `serve`."""

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
    def __init__(self, folder: str | None) -> None:
        self._folder = Path(folder) if folder else None

    def fleet(self) -> Fleet:
        return find(self._folder)


pass_state = click.make_pass_decorator(State)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def tell_running(fleet: Fleet, device: str = "") -> bool:
    """A running `serve` learns of what was registered; False when none runs."""
    try:
        control.call(fleet.control, {"op": "reload", "device": device})
    except HostError as error:
        if error.code != "not-serving":
            raise
        return False
    return True


@contextmanager
def interruptible(as_json: bool, text: str = "stopped") -> Iterator[None]:
    """Ctrl-C and SIGTERM end through every `finally`, so no child is left behind; the block just ends."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        screen.stopped(as_json, text=text)
    finally:
        signal.signal(signal.SIGTERM, before)
