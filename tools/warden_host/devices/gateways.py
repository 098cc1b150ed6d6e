"""Gateways: each has an account that relays the sealed messages of listed devices, and no others.

A gateway opens nothing: it has no key of a device. What it may publish and receive is what a
device without TLS may, so plain messages pass it in neither direction. A device that is revoked is
cut off at each gateway that lists it.
"""

from typing import Any

from warden_host import names
from warden_host.broker.accounts import Registry, gateway_account, machine_password
from warden_host.broker.backend import largest_packet, open_registry
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.gateways import MOST_DEVICES
from warden_host.store.store import Device, Store

FORMAT = 1
KIND = "warden gateway"  # tells the file from any other JSON


def add(fleet: Fleet, store: Store, name: str, devices: tuple[str, ...]) -> str:
    """Add a gateway and return the password of its account, which is kept nowhere else.

    Raises: bad-name, gateway-exists, device-unknown, not-applicable, bad-argument for too many.
    """
    names.check_id(name, "gateway")
    check(store, devices)
    check_count(devices)
    password = machine_password()
    with open_registry(fleet) as accounts:
        if name in store.gateways():
            raise HostError("gateway-exists", f"gateway {name} is registered already")
        with store.transaction():
            store.set_gateway(name, devices)
        accounts.put(gateway_account(name, _listed(store, devices), password))
    return password


def change(
    fleet: Fleet, store: Store, name: str, more: tuple[str, ...], less: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Add devices to a gateway and take others from it; return its devices. It stays connected.

    more: are checked; what is taken away, or left, may be of any kind or gone from the fleet.
    Raises: gateway-unknown, device-unknown, not-applicable, bad-argument for too many.
    """
    check(store, more)
    with open_registry(fleet) as accounts:
        # Read under the registry's lock: another change at this moment is lost otherwise.
        before = set(store.gateway(name))
        devices = tuple(sorted({*before, *more} - set(less)))
        check_count(devices)
        # What it loses goes at the broker first, what it gets comes there last: a stop in
        # between leaves it with less.
        kept = tuple(sorted(before & set(devices)))
        accounts.replace_rights(gateway_account(name, _listed(store, kept), ""))
        with store.transaction():
            store.set_gateway(name, devices)
        if devices != kept:
            accounts.replace_rights(gateway_account(name, _listed(store, devices), ""))
    return devices


def new_password(fleet: Fleet, store: Store, name: str) -> str:
    """Give a gateway a new password and end its connection. Raises gateway-unknown."""
    store.gateway(name)
    password = machine_password()
    with open_registry(fleet) as accounts:
        accounts.set_password(names.gateway_client(name), password)
    return password


def remove(fleet: Fleet, store: Store, name: str) -> None:
    """Remove a gateway and end its connection. Raises gateway-unknown."""
    store.gateway(name)
    with open_registry(fleet) as accounts:
        account = gateway_account(name, (), "")
        accounts.remove(account.username, account.role)
        with store.transaction():
            store.remove_gateway(name)


def follow(accounts: Registry, store: Store, device: str) -> None:
    """Give the gateways that list a device the rights that follow from its record now."""
    for name, devices in store.gateways().items():
        if device in devices:
            accounts.replace_rights(gateway_account(name, _listed(store, devices), ""))


def enforce(fleet: Fleet) -> None:
    """Give all gateways the rights that follow from fleet.db, before the broker starts."""
    with Store(fleet.database) as store:
        known = store.gateways()
        if not known:
            return
        with open_registry(fleet) as accounts:
            for name, devices in store.gateways().items():
                accounts.replace_rights(gateway_account(name, _listed(store, devices), ""))


def check_count(devices: tuple[str, ...]) -> None:
    """Raise bad-argument for too many."""
    if len(devices) > MOST_DEVICES:
        raise HostError("bad-argument", f"a gateway relays for {MOST_DEVICES} devices at most")


def check(store: Store, devices: tuple[str, ...]) -> None:
    """Raise device-unknown, not-applicable for a plain device."""
    for device in devices:
        if store.device(device).mode != "sealed":
            raise HostError(
                "not-applicable",
                f"{device} is plain: a gateway could read and give its commands",
                "provision it again in sealed mode",
            )


def document(fleet: Fleet, store: Store, name: str, password: str) -> dict[str, Any]:
    """Return the content of the file that the gateway's program reads (docs/gateways.md)."""
    broker, user = fleet.settings.broker, names.gateway_client(name)
    return {
        "kind": KIND,
        "format": FORMAT,
        "gateway": name,
        "broker": {
            "host": broker.host,
            "port": broker.device_port,
            "user": user,
            "password": password,
            "max_packet": largest_packet(fleet),
            "ca": (fleet.keys / "ca.crt").read_text(),
        },
        "devices": [[one.type, one.device] for one in _listed(store, store.gateway(name))],
    }


def _listed(store: Store, devices: tuple[str, ...]) -> tuple[Device, ...]:
    """Return those of the devices that may use the broker: all that a gateway may relay for."""
    found = [store.find(device) for device in devices]
    return tuple(
        one
        for one in found
        if one is not None
        and one.mode == "sealed"
        and (one.ending is None or not one.ending.revoked or one.ending.wipe)
        and (one.ending is None or one.ending.wiped is None)
    )
