"""Answer what watchers ask for: the devices with their states, and the events that follow."""

from typing import Any

from warden_host import names
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.service.authority import Authority
from warden_host.service.control import Caller, Handler, Line
from warden_host.service.event_feed import EventFeed
from warden_host.service.request_fields import read_text

_PAGE = 500  # devices a line: some 70 bytes each


class LiveRequests:
    """The operations `watch` and `devices`."""

    def __init__(self, authority: Authority, feed: EventFeed) -> None:
        self._authority = authority
        self._feed = feed
        self.operations: dict[str, Handler] = {"watch": self.watch, "devices": self.devices}

    def watch(self, line: Line, caller: Caller) -> None:
        """Send events, one a line; with "batched" in objects, those after the mark "after"."""
        device = read_text(line, "device", "")
        if device:
            names.check_id(device, "device ID")
        after = line.get("after")
        if after is not None and (type(after) is not int or after < 0):
            raise HostError("control-malformed", "after is no mark")
        batched = line.get("batched") is True
        self._feed.add(caller, after, device, batched)
        if not batched:
            caller.send(FleetEvent("notice", text="watching").record())

    def devices(self, _: Line, caller: Caller) -> None:
        """Send pages of [device, type, presence, quarantined]."""

        def ask(engine: Engine) -> list[list[Any]]:
            presences = engine.presences()
            return [
                [name, type_, presences.get(name, ("", 0.0))[0], bool(reason)]
                for name, type_, reason in engine.store.device_types()
            ]

        rows = self._authority.ask(ask)
        for start in range(0, len(rows), _PAGE):
            caller.send({"devices": rows[start : start + _PAGE]})
        caller.finish({"ok": True})
