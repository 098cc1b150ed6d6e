"""Announce log-ins that the broker refused, and count repeats: a stranger can cause any number."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from warden_host.alarms.rules import LOGIN_REFUSED
from warden_host.broker import logins
from warden_host.broker.logins import RefusedLogin
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Store

REPEAT_S = 600.0  # one announcement of a client in this time
_MOST_A_MINUTE = 20  # announcements of all clients
_MOST_KEYS = 256


class LoginWatch:
    """Called by the broker's log thread with each refused log-in."""

    def __init__(
        self,
        fleet: Fleet,
        announce: Callable[[FleetEvent], None],
        count: Callable[[FleetEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """announce: shows an event. count: gets one of each log-in, for alarms."""
        self._fleet = fleet
        self._announce = announce
        self._count = count
        self._clock = clock
        self._guard = threading.Lock()
        # Client and reason → when it was announced, and how often it came since.
        self._known: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()
        self._minute = (float("-inf"), 0)
        self._unsaid = 0  # kept back since the last announcement

    def refused(self, one: RefusedLogin) -> None:
        """Count a log-in, and announce it where it is new or due again."""
        where = " or ".join(one.addresses)
        self._count(FleetEvent("notice", code=LOGIN_REFUSED, text=f"from {where}"))
        with self._guard:
            repeats = self._due(one)
            if repeats is None:
                return
            unsaid, self._unsaid = self._unsaid, 0
        try:
            with Store(self._fleet.database) as store:
                knock = logins.describe(store, one)
        except (HostError, OSError):  # the log has it all the same
            return
        device = knock.devices[0] if len(knock.devices) == 1 else ""
        again = f", {repeats} times since it was last shown" if repeats else ""
        others = f"; {unsaid} others were not shown" if unsaid else ""
        self._announce(
            FleetEvent("login", device=device, code=knock.code, text=knock.text + again + others)
        )

    def _due(self, one: RefusedLogin) -> int | None:
        """Return how often it came unannounced; None where it is not to be announced now."""
        now = self._clock()
        announced, repeats = self._known.pop(one.key, (float("-inf"), 0))
        began, shown = self._minute
        if now - began >= 60:
            began, shown = now, 0
        if now - announced < REPEAT_S:
            self._known[one.key] = announced, repeats + 1
            return None
        if shown >= _MOST_A_MINUTE:
            self._unsaid += 1
            return None
        self._minute = began, shown + 1
        self._known[one.key] = now, 0
        if len(self._known) > _MOST_KEYS:
            self._known.popitem(last=False)
        return repeats
