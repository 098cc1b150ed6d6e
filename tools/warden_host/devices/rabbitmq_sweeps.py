"""Repeat at RabbitMQ what could not be done at once, and what a start of it undid.

RabbitMQ lists a connection seconds after its log-in, its HTTP API may be away for longer than
that, and its start may give users the rights of a file of definitions again.

A device that logs in by a token is no user of RabbitMQ's own: it comes again while the token
server gives it tokens, and its connection is closed again while it is revoked.
"""

import time
from collections.abc import Callable, Container
from typing import TypeVar

from warden_host import names
from warden_host.broker import connection
from warden_host.broker.accounts import Account, quarantine_account, wipe_only_account
from warden_host.broker.rabbitmq import management
from warden_host.fleet.fleet import Fleet
from warden_host.store.reactions import QUARANTINE
from warden_host.store.store import Device, Store

_CHECKED = 20  # devices whose rights are compared in one look
_Order = tuple[str, float, bool]  # device, when, whether to wipe it
_Since = tuple[str, float]  # device in quarantine, since when
_T = TypeVar("_T")


class RabbitSweeps:
    """Remember what was done at RabbitMQ since this program started. clock: unix seconds."""

    def __init__(self, fleet: Fleet, clock: Callable[[], float] = time.time) -> None:
        self._fleet = fleet
        self._clock = clock
        self._cut_off: set[_Order] = set()
        self._restricted: set[_Since] = set()
        self._checked = ""  # the last device whose rights were compared
        self._looked = float("-inf")

    def look(self, store: Store) -> None:
        """Close and restrict what is due. Call it often. Raises what management does.

        What RabbitMQ refuses for one device keeps nothing from being done for the others.
        """
        if not management.is_used(self._fleet):
            return
        parts: list[Callable[[Store], None]] = [self._cut_off_revoked, self._restrict_quarantined]
        now = self._clock()
        if not 0 <= now - self._looked < management.LISTED_S:
            self._looked = now
            parts += [self._close_tokens, self._check_rights]
        management.each(parts, lambda part: part(store))

    def _cut_off_revoked(self, store: Store) -> None:
        """Cut off revoked devices once more, also those of before a stop of this program."""
        orders = store.orders_to_revoke()
        self._cut_off.intersection_update(orders)
        done: dict[_Order, str] = {}

        def cut_off(order: _Order) -> None:
            known = store.find(order[0])
            if known is not None and known.ending is not None:
                self._refuse(store, known, known.ending.wipe)
                done[order] = names.device_client(known.type, known.device)

        due = [one for one in orders if self._is_due(one, self._cut_off)]
        self._do(due, cut_off, done, self._cut_off)

    def _refuse(self, store: Store, known: Device, wipe: bool) -> None:
        """Refuse a device, unless it is let in meanwhile: RabbitMQ may answer slowly."""
        if wipe:
            account = wipe_only_account(known.type, known.device)
            management.restrict(self._fleet, account, close=False)
            return
        username = names.device_client(known.type, known.device)
        management.refuse(self._fleet, username, close=False)
        if store.ending(known.device) is None:
            management.admit(self._fleet, username)

    def _restrict_quarantined(self, store: Store) -> None:
        """Restrict devices in quarantine once more, also those of before a stop."""
        quarantined = self._quarantined(store)
        self._restricted.intersection_update(quarantined)
        done: dict[_Since, str] = {}

        def restrict(one: _Since) -> None:
            account = quarantined[one]
            management.restrict(self._fleet, account, close=False)
            done[one] = account.username

        due = [one for one in quarantined if self._is_due(one, self._restricted)]
        self._do(due, restrict, done, self._restricted)

    def _is_due(self, one: _Order | _Since, done: Container[_Order | _Since]) -> bool:
        return one not in done and self._clock() - one[1] >= management.LISTED_S

    def _do(
        self, due: list[_T], change: Callable[[_T], None], done: dict[_T, str], finished: set[_T]
    ) -> None:
        """Change the rights of each, then close the connections of all that were changed.

        One list of all connections, which is long, serves them all: where it fails, none is
        finished. done: what change() changed, and its user. finished: gets them once closed.
        """

        def close() -> None:
            management.close_users(self._fleet, done.values())
            finished.update(done)

        management.each((lambda: management.each(due, change), close), lambda part: part())

    def _quarantined(self, store: Store) -> dict[_Since, Account]:
        """Return (device, since when) → rights, without devices that are being readmitted."""
        found = {}
        for device, reaction in store.reactions().items():
            known = store.find(device)
            if reaction.kind != QUARANTINE or reaction.readmitting or known is None:
                continue
            if known.ending is None:
                account = quarantine_account(known.type, known.device, known.mode != "sealed")
                found[device, reaction.since] = account
        return found

    def _check_rights(self, store: Store) -> None:
        """Compare some devices' rights in each look; have those with more restricted anew.

        These are devices in quarantine and devices that are to be wiped.
        """
        narrow: dict[str, Account] = {}
        for key, account in self._quarantined(store).items():
            if key in self._restricted:
                narrow[key[0]] = account
        for device, _, wipe in self._cut_off:
            known = store.find(device) if wipe else None
            if known is not None:
                narrow[device] = wipe_only_account(known.type, known.device)
        in_order = sorted(narrow, key=lambda device: (device <= self._checked, device))

        def check(device: str) -> None:
            self._checked = device
            if not management.has_rights(self._fleet, narrow[device]):
                self._restricted = {one for one in self._restricted if one[0] != device}
                self._cut_off = {one for one in self._cut_off if one[0] != device}

        management.each(in_order[:_CHECKED], check)

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
