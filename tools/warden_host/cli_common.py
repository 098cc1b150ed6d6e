"""What the commands share: the fleet they work on, and how to tell a running `serve`."""

from pathlib import Path

import click

from warden_host import control
from warden_host.errors import HostError
from warden_host.fleet import Fleet, find


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
