"""Announce the applications that became parties of their own: the authority left them alone."""

from collections.abc import Callable

from warden_host.engine.events import FleetEvent
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

_TEXT = "it is a party of its own: `warden serve` leaves its account and its sessions alone"


class Exported:
    """The applications that were announced. announce: passes an event to all who watch."""

    def __init__(self, fleet: Fleet, announce: Callable[[FleetEvent], None]) -> None:
        self._fleet = fleet
        self._announce = announce
        self._known: frozenset[str] = frozenset()

    def renew(self) -> None:
        """Announce those that fleet.db has and that were not announced."""
        with Store(self._fleet.database) as store:
            exported = store.exported()
        for appid in sorted(exported - self._known):
            self._announce(FleetEvent("notice", app=appid, text=_TEXT))
        self._known = exported
