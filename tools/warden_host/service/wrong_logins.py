"""Pass wrong log-ins at the console, and wrong tokens, on to the watch that bans addresses."""

import itertools
import time
from collections.abc import Callable

from warden_host.addresses import canonical_address
from warden_host.alarms.rules import LOGIN_REFUSED
from warden_host.broker.backend import Attempt, AttemptKind
from warden_host.engine.events import FleetEvent
from warden_host.service.ban_watch import OPERATOR, BanWatch

_STRANGER = "console"


class WrongLogins:
    """on_notice: counts one wrong log-in, for alarms."""

    def __init__(self, bans: BanWatch, on_notice: Callable[[FleetEvent], None]) -> None:
        self._bans = bans
        self._on_notice = on_notice
        self._numbers = itertools.count(1)

    def guard_console(self, port: int) -> None:
        """Let the firewall keep banned addresses from the console's port, too."""
        self._bans.guard_console(port)

    def is_refused(self, address: str) -> bool:
        """Return whether bans or lists keep a browser's address out."""
        found = canonical_address(address)
        return bool(found) and self._bans.keeps_out(found)

    def refused(self, address: str, place: str = "the console") -> None:
        """Count a wrong log-in: for an alarm, and against the address."""
        text = f"from {address}, at {place}"
        self._on_notice(FleetEvent("notice", code=LOGIN_REFUSED, text=text))
        self._attempt(AttemptKind.REFUSED, address, _STRANGER)

    def right(self, address: str, name: str) -> None:
        """Note from where an operator logged in: others there are slowed, and not banned."""
        self.accepted(address, f"{OPERATOR}:{name}")

    def accepted(self, address: str, client: str) -> None:
        """Note from where a client of the fleet came, as the broker names it."""
        self._attempt(AttemptKind.LOGGED_IN, address, client)

    def _attempt(self, kind: AttemptKind, address: str, client: str) -> None:
        found = canonical_address(address)
        if found:
            # Numbers below zero are none of a broker's connection: people mistype.
            number = -next(self._numbers)
            self._bans.attempt(Attempt(kind, time.time(), found, client, number))
