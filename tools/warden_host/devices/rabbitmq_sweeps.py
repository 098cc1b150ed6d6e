"""Do again at RabbitMQ what could not be done at once: it lists a connection seconds too late.

A device that logs in by a token is none of its users: it comes again while the token server gives
it tokens, and is closed again while it is revoked.
"""

import time
from collections.abc import Callable

from warden_host import names
from warden_host.broker import connection
from warden_host.broker.accounts import quarantine_account
from warden_host.broker.rabbitmq import management
from warden_host.fleet.fleet import Fleet
from warden_host.store.reactions import QUARANTINE
from warden_host.store.store import Device, Store

_AGAIN_S = 60.0  # so long after a revocation RabbitMQ is asked again


class RabbitSweeps:
    """What was done since it was made. clock: unix seconds."""

    def __init__(self, fleet: Fleet, clock: Callable[[], float] = time.time) -> None:
        self._fleet = fleet
        self._clock = clock
        self._refused: set[str] = set()
        self._restricted: set[tuple[str, float]] = set()  # device, since when
        self._looked = float("-inf")

    def look(self, store: Store) -> None:
        """Close and restrict what is due. Call it often. Raises what management does."""
        if not management.is_used(self._fleet):
            return
        self._refuse_revoked(store)
        self._restrict_quarantined(store)
        now = self._clock()
        if not 0 <= now - self._looked < management.LISTED_S:
            self._looked = now
            self._close_tokens(store)

    def _refuse_revoked(self, store: Store) -> None:
        now = self._clock()
        due = store.revoked_between(now - _AGAIN_S, now - management.LISTED_S)
        self._refused.intersection_update(due)
        for device in due:
            known = store.find(device)
            if device in self._refused or known is None or known.ending is None:
                continue
            management.refuse(self._fleet, names.device_client(known.type, known.device))
            self._refused.add(device)

    def _restrict_quarantined(self, store: Store) -> None:
        """Restrict once more, also those of before a stop."""
        now, present = self._clock(), set()
        for device, reaction in store.reactions().items():
            known = store.find(device)
            if reaction.kind != QUARANTINE or known is None or known.ending is not None:
                continue
            key = device, reaction.since
            present.add(key)
            if key not in self._restricted and now - reaction.since >= management.LISTED_S:
                account = quarantine_account(known.type, known.device, known.mode != "sealed")
                management.restrict(self._fleet, account)
                self._restricted.add(key)
        self._restricted &= present

    def _close_tokens(self, store: Store) -> None:
        """Close all connections of revoked devices that log in by a token."""
        found = []
        for device, ending in store.endings().items():
            known = store.find(device)
            if known is not None and ending.revoked and not ending.wipe and _has_token(known):
                found.append(names.device_client(known.type, known.device))
        management.close_clients(self._fleet, found)


def _has_token(device: Device) -> bool:
    return bool(device.policy) and connection.of_record(device.policy).uses("token")
