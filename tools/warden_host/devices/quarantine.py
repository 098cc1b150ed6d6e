"""Quarantine a device at the broker, de-register it, and let it in again with new secrets.

fleet.db holds what is to be, durably, before the broker is changed: after a stop in between, the
next `warden serve` does the rest before its broker accepts connections (enforce), and the same
command goes on.
"""

import time
from dataclasses import replace

from warden_host import names
from warden_host.broker import connection
from warden_host.broker.accounts import Account, Registry, quarantine_account
from warden_host.broker.backend import open_registry
from warden_host.broker.rabbitmq import management
from warden_host.devices import gateways, log_in, revocation
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.reactions.settings import CLONED
from warden_host.store.reactions import DEREGISTER, QUARANTINE, Reaction
from warden_host.store.store import Device, Store


def apply(fleet: Fleet, store: Store, device: str, reaction: Reaction) -> bool:
    """Store a reaction and carry it out at the broker, whose connection of the device ends.

    Returns: False where nothing was done: the device is gone, or as far restricted already.
    """
    with store.transaction():
        if not is_due(store, device, reaction.kind):
            return False
        store.set_reaction(device, reaction)
        if reaction.kind == DEREGISTER:
            store.order_ending(device, revoked=True, wipe=False, moment=time.time())
    if reaction.kind == DEREGISTER:
        return revocation.revoke_access(fleet, store, device)
    with open_registry(fleet) as accounts:
        known = store.find(device)  # read under the registry's lock, as in revoke_access()
        if known is None or known.reaction is None or known.ending is not None:
            return False
        _restrict(accounts, known)
        gateways.follow(accounts, store, device)
    management.restrict(fleet, _quarantined(known))
    return True


def is_due(store: Store, device: str, kind: str) -> bool:
    """Return whether a device is there, and less restricted than by a reaction of this kind."""
    known = store.find(device)
    if known is None or known.ending is not None:
        return False
    return known.reaction is None or DEREGISTER in (known.reaction.kind, kind)


def enforce(fleet: Fleet) -> None:
    """Restrict the accounts of all devices in quarantine, before the broker starts."""
    with Store(fleet.database) as store:
        if not any(one.kind == QUARANTINE for one in store.reactions().values()):
            return
        with open_registry(fleet) as accounts:
            for device, reaction in store.reactions().items():
                known = store.find(device)
                if known is not None and known.ending is None and reaction.kind == QUARANTINE:
                    _restrict(accounts, known)


def begin_readmission(fleet: Fleet, store: Store, device: str) -> Reaction:
    """Let a device connect in quarantine, to be given new secrets. Return its former reaction.

    Raises: not-applicable where only new secrets by hand will do.
    """
    known = store.device(device)
    reaction = check_readmission(known)
    with store.transaction():
        store.set_reaction(device, replace(reaction, kind=QUARANTINE, readmitting=True))
        store.end_ending(device)
    with open_registry(fleet) as accounts:
        known = store.device(device)
        if known.ending is not None:
            raise HostError("revoked", f"{device} was cut off in the meantime")
        accounts.replace_rights(quarantine_account(known.type, known.device))
        accounts.enable(quarantine_account(known.type, known.device).username)
        gateways.follow(accounts, store, device)
    management.restrict(fleet, _quarantined(known), close=False)
    management.admit(fleet, names.device_client(known.type, known.device))
    return reaction


def complete_readmission(fleet: Fleet, store: Store, device: str) -> None:
    """Give a device its rights back and end its quarantine: it proved its new secrets."""
    with open_registry(fleet) as accounts:
        known = store.device(device)
        if known.ending is not None:
            raise HostError("revoked", f"{device} was cut off in the meantime")
        # The rights first: after a stop in between, it is still in quarantine in fleet.db.
        accounts.replace_rights(log_in.account(known, ""))
        management.restrict(fleet, log_in.account(known, ""), close=False)
        with store.transaction():
            store.end_reaction(device)
        gateways.follow(accounts, store, device)


def check_readmission(known: Device) -> Reaction:
    """Return the reaction that restricts a device.

    Raises not-applicable, and says why: there is none, or the device must be provisioned again.
    """
    reaction, ending = known.reaction, known.ending
    why = ""
    if reaction is None:
        why = "was cut off by an operator" if ending is not None else "is not restricted"
    elif ending is not None and ending.wipe:
        why = "is to be wiped"
    elif known.mode != "sealed":
        why = "is plain: new secrets can't be sent to it"
    elif reaction.code == CLONED:
        why = "has a copy with the same keys, which would get the new secrets as well"
    elif ending is not None and connection.of_record(known.policy).uses("certificate"):
        why = "logs in by a certificate, which was revoked"
    if why or reaction is None:
        bench = "provision it again at the bench, with all-new secrets"
        free = reaction is None and ending is None
        hint = "`warden devices` lists those that are" if free else bench
        raise HostError("not-applicable", f"{known.device} {why}", hint)
    return reaction


def _quarantined(known: Device) -> Account:
    return quarantine_account(known.type, known.device, known.mode != "sealed")


def _restrict(accounts: Registry, known: Device) -> None:
    """Leave a device the rights of its quarantine, and drop its connection."""
    account = _quarantined(known)
    accounts.replace_rights(account)
    accounts.disable(account.username)
    accounts.enable(account.username)
