"""Follow a running `serve` through its control socket, and hand what changes to the outlets."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from warden_host import control_client
from warden_host.bridge.view import FleetView
from warden_host.errors import HostError
from warden_host.round_guard import RoundGuard
from warden_host.stopping import Stop

_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_LAST_S = 5.0  # for what is under way when it ends
_REFRESH_S = 30.0  # the list of devices, for what no event tells: sleep, a new device


class Outlet(Protocol):
    """Where the fleet's state goes. Called by one thread at a time, with the view guarded."""

    def on_change(self, name: str) -> None:
        """Show a device whose state or telemetry changed, or that is no more in the view."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Pass an event on."""


class Bridge:
    """Follow `serve` until a stop. say: called with a line for people.

    view and guard: for outlets that read the view on other threads. stop: for those that wait.
    """

    def __init__(self, socket: Path, say: Callable[[str], None], stop: Stop) -> None:
        self.view = FleetView()
        self.guard = threading.Lock()
        self.outlets: list[Outlet] = []
        self._socket = socket
        self._say = say
        self.stop = stop
        self._rounds = RoundGuard("the list of devices was not read", self.tell)
        self._refresher = threading.Thread(target=self._refresh, daemon=True)

    def run(self) -> None:
        """Follow `serve`, again after each loss, until the stop."""
        self._refresher.start()
        try:
            self._run()
        finally:
            self.stop.request()
            self._refresher.join(_LAST_S)

    def tell(self, _: str, text: str) -> None:
        """Show an unforeseen exception; for the threads of outlets, too."""
        self._say(text)

    def _run(self) -> None:
        lost = 0
        while not self.stop.requested:
            try:
                self._follow()
                lost = 0
                why = "`warden serve` ended"
            except HostError as error:
                why = str(error)
                if error.code in ("operator-unknown", "role-missing"):
                    raise
            if self.stop.requested:
                return
            with self.guard:
                was, names = self.view.connected, self.view.disconnect()
                self._changed(names)
            if was or lost == 0:
                self._say(f"{why}; trying again")
            self.stop.wait(_PAUSES_S[min(lost, len(_PAUSES_S) - 1)])
            lost += 1

    def _follow(self) -> None:
        for event in control_client.stream(self._socket, {"op": "watch"}, stop=self.stop):
            if not self.view.connected:  # the first line: nothing is missed from here on
                with self.guard:
                    self.view.connected = True
                self._say("connected")
                self._load()
            with self.guard:
                name = self.view.apply(event)
                for outlet in self.outlets:
                    outlet.on_event(event)
                self._changed([name] if name else [])

    def _load(self) -> None:
        with self.guard:
            left = set(self.view.devices)  # not those that an event names meanwhile
        for page in control_client.stream(self._socket, {"op": "devices"}, 60.0, self.stop):
            rows = page.get("devices")
            if isinstance(rows, list):
                left -= {str(row[0]) for row in rows}
                with self.guard:
                    self._changed(self.view.update_list(rows))
        if self.stop.requested:
            return  # the list was not read to its end
        with self.guard:
            self._changed(self.view.remove(left))

    def _refresh(self) -> None:
        while not self.stop.wait(_REFRESH_S):
            if self.view.connected:
                self._rounds.attempt(self._refresh_now)

    def _refresh_now(self) -> None:
        try:
            self._load()
        except HostError as error:
            self._say(str(error))

    def _changed(self, names: Sequence[str]) -> None:
        for name in names:
            for outlet in self.outlets:
                outlet.on_change(name)
