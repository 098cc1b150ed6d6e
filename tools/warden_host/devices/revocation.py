"""The end of a device: cut off at the broker, wiped on its next contact. The order in which its keepers learn of it.

1. fleet.db holds the order, on disk: from then on a running authority that was told, and any that starts later,
speaks with the device no more, but to wipe it.  2. The broker drops its connection and refuses it; where it is to
be wiped it may log in again, with a role that carries a session and a wipe and nothing else.  3. The device answers
the order to wipe, and that is on disk.  4. Its account goes, then all that fleet.db knows of it.

A stop between any two of them is taken up by the same command again, and by the next `warden serve`: before its
broker takes the first connection, it does 2 and 4 for whoever still waits for them. A device that was told to wipe
itself and never answered stays listed: nobody can know whether it did.
"""

import time

from warden_host.broker.base import Registry, wipe_only_account
from warden_host.broker.mosquitto import registry
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.endings import Ending
from warden_host.store.store import Device, Store


def order_ending(store: Store, device: str, *, revoke: bool, wipe: bool) -> Ending:
    """On disk when this returns. Raises device-unknown, not-applicable."""
    known = store.device(device)
    if wipe and known.mode != "sealed":
        raise HostError(
            "not-applicable",
            f"{device} is plain: nobody but its owner at the bench may wipe it",
            f"`warden revoke {device}` cuts it off",
        )
    with store.transaction():
        store.order_ending(device, revoke, wipe, time.time())
        if wipe:
            # Whatever it proved, or its flash was played back to: it is to come and be wiped.
            store.reset_proofs(device)
    made = store.ending(device)
    if made is None:
        raise HostError("device-unknown", f"{device} was removed in the meantime")
    return made


def revoke_access(fleet: Fleet, store: Store, device: str) -> bool:
    """At the broker, running or not: its connection is dropped. The same again changes nothing. False, and nothing done, for one
    that was not ordered to be cut off, or was provisioned again meanwhile."""
    with registry.opened(fleet) as accounts:
        # Asked here, with the turn at the broker: the name may belong to a new device by now.
        known, ending = store.find(device), store.ending(device)
        if known is None or ending is None or not ending.revoked:
            return False
        _cut_off(accounts, known, ending)
    return True


def remove_wiped(fleet: Fleet, store: Store, device: str) -> bool:
    """After the device answered its wipe: its account goes, then its record. False when there is nothing (more) to do."""
    with registry.opened(fleet) as accounts:
        # As in revoke_access().
        known, ending = store.find(device), store.ending(device)
        if known is None or ending is None or ending.wiped is None:
            return False
        _remove(accounts, store, known)
    return True


def enforce_endings(fleet: Fleet) -> None:
    """Before a broker starts: what a stop left undone, so that nobody who was cut off gets in."""
    with Store(fleet.database) as store:
        if not any(ending.revoked or ending.wiped for ending in store.endings().values()):
            return
        with registry.opened(fleet) as accounts:
            for device, ending in store.endings().items():  # as in revoke_access()
                known = store.device(device)
                if ending.wiped is not None:
                    _remove(accounts, store, known)
                elif ending.revoked:
                    _cut_off(accounts, known, ending)


def _cut_off(accounts: Registry, known: Device, ending: Ending) -> None:
    account = wipe_only_account(known.type, known.device)
    accounts.disable(account.username)
    if ending.wipe:
        accounts.replace_rights(account)
        accounts.enable(account.username)


def _remove(accounts: Registry, store: Store, known: Device) -> None:
    """The account first: without the record nobody would know that it is to go. The turn at the broker keeps the name from
    being given anew in between, and fleet.db is not locked while the broker is asked."""
    account = wipe_only_account(known.type, known.device)
    accounts.remove(account.username, account.role)
    with store.transaction():
        store.remove_device(known.device)
