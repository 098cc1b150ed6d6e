"""Revoke a device at the broker, and wipe it on its next contact.

1. fleet.db holds the order, durably: from then on the authority talks to the device only to wipe
   it.
2. The broker drops its connection and refuses it; a device to be wiped may log in again, with a
   role that allows a session and a wipe and nothing else.
3. The device confirms the wipe, and fleet.db records that, durably.
4. Its account is removed, then its record in fleet.db.

After a stop between two steps the same command goes on, and so does the next `warden serve`:
before its broker accepts connections, it does steps 2 and 4 for all devices that wait for them. A
device that never confirmed its wipe stays listed: whether it is wiped can't be known.
"""

import time
from dataclasses import replace

from warden_host import names
from warden_host.broker.accounts import Registry, wipe_only_account
from warden_host.broker.backend import open_registry
from warden_host.broker.rabbitmq import management
from warden_host.devices import gateways
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.endings import Ending
from warden_host.store.store import Device, Store


def order_ending(store: Store, device: str, *, revoke: bool, wipe: bool) -> Ending:
    """Store the order to revoke or wipe a device, durably.

    Raises: device-unknown, not-applicable.
    """
    known = store.device(device)
    if wipe and known.mode != "sealed":
        raise HostError(
            "not-applicable",
            f"{device} is plain: only its owner at the bench may wipe it",
            f"`warden revoke {device}` cuts it off",
        )
    with store.transaction():
        store.order_ending(device, revoke, wipe, time.time())
        if wipe:
            # Even a device with an older flash is to connect and be wiped.
            store.reset_proofs(device)
    made = store.ending(device)
    if made is None:
        raise HostError("device-unknown", f"{device} was removed in the meantime")
    return made


def revoke_access(fleet: Fleet, store: Store, device: str) -> bool:
    """Drop and refuse a device at the broker, which may run or not; repeating it changes nothing.

    Returns: False without a change where the device is not ordered to be revoked, or was
    provisioned again meanwhile.
    """
    with open_registry(fleet) as accounts:
        # Read under the registry's lock: the name may belong to a new device by now.
        known, ending = store.find(device), store.ending(device)
        if known is None or ending is None or not ending.revoked:
            return False
        _cut_off(accounts, store, known, ending)
    if ending.wipe:
        management.restrict(fleet, wipe_only_account(known.type, known.device))
    else:
        management.refuse(fleet, names.device_client(known.type, known.device))
    return True


def drop_connection(fleet: Fleet, store: Store, device: str) -> None:
    """Drop a device's connection at the broker; it may log in again, unless it was cut off."""
    with open_registry(fleet) as accounts:
        known, ending = store.find(device), store.ending(device)  # as in revoke_access()
        if known is None or ending is not None:
            return
        username = names.device_client(known.type, known.device)
        accounts.disable(username)
        accounts.enable(username)


def remove_wiped(fleet: Fleet, store: Store, device: str) -> bool:
    """Remove account and record of a device that confirmed its wipe; False where there is none."""
    with open_registry(fleet) as accounts:
        # As in revoke_access().
        known, ending = store.find(device), store.ending(device)
        if known is None or ending is None or ending.wiped is None:
            return False
        _remove(accounts, store, known)
    return True


def enforce_endings(fleet: Fleet) -> None:
    """Complete all orders that a stop interrupted, before the broker starts."""
    with Store(fleet.database) as store:
        if not any(ending.revoked or ending.wiped for ending in store.endings().values()):
            return
        with open_registry(fleet) as accounts:
            for device, ending in store.endings().items():  # as in revoke_access()
                known = store.device(device)
                if ending.wiped is not None:
                    _remove(accounts, store, known)
                elif ending.revoked:
                    _cut_off(accounts, store, known, ending)


def _cut_off(accounts: Registry, store: Store, known: Device, ending: Ending) -> None:
    """Take the device's rights, then drop its connection.

    In this order: the broker does not ask its accounts when a certificate logs in, so a device
    that is back at once finds no rights. Its certificates are marked for the revocation list.
    """
    account = wipe_only_account(known.type, known.device)
    gateways.follow(accounts, store, known.device)
    accounts.replace_rights(account if ending.wipe else replace(account, rights=()))
    accounts.disable(account.username)
    if ending.wipe:
        accounts.enable(account.username)
    else:
        with store.transaction():
            store.revoke_certificates(known.device, time.time())


def _remove(accounts: Registry, store: Store, known: Device) -> None:
    """Remove the account, and gateways' rights, then the record, which names the account.

    The lock on the registry keeps the name from being given anew in between, and fleet.db is not
    locked while the broker is asked.
    """
    account = wipe_only_account(known.type, known.device)
    gateways.follow(accounts, store, known.device)
    accounts.remove(account.username, account.role)
    with store.transaction():
        store.revoke_certificates(known.device, time.time())
        store.remove_device(known.device)
