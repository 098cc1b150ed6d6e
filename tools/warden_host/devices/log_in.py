"""What a device logs in with, by its terms: its account at the broker, and where it connects."""

from warden_host.broker import connection
from warden_host.broker.accounts import (
    Account,
    certified_account,
    device_account,
    sealed_account,
)
from warden_host.broker.connection import Terms
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.servers import Server, chosen, for_ways
from warden_host.store.store import Device, Store


def account(device: Device, password: str) -> Account:
    """Return a device's account. password: also of one that only something else opens."""
    terms = connection.of_record(device.policy)
    if not terms.tls:
        make = sealed_account
    elif terms.needs_both and terms.uses("password"):
        make = certified_account
    else:
        make = device_account
    return make(device.type, device.device, password)


def uses_certificate(fleet: Fleet, type_: str, device: str, known: Device | None) -> bool:
    """Return whether a device logs in by a certificate, by warden.toml or by what it has.

    known: the device that has the name now. Raises config-malformed.
    """
    terms = [connection.load(fleet).terms(type_, device)]
    if known is not None:
        terms.append(connection.of_record(known.policy))
    return any(one.uses("certificate") for one in terms)


def brokers(fleet: Fleet, terms: Terms, given: tuple[Server, ...]) -> tuple[Server, ...]:
    """Return the brokers of a device, the first one first: of each the listener for its terms.

    given: in the place of those of warden.toml. Raises bad-argument, config-malformed.
    """
    settings, tls_port = connection.load(fleet), fleet.settings.broker.device_port
    if terms.has_choice:
        ways = [(terms.way(one), settings.port(one, tls_port)) for one in terms.listeners]
        return for_ways(fleet, given, ways)
    others = (tls_port, settings.certificate_port, settings.both_port)
    port = settings.port(terms.listeners[0], tls_port)
    if not port and not all(one.port for one in given or (Server(""),)):
        raise HostError(
            "bad-argument",
            "the broker has no listener without TLS: a device that has none needs gateways",
            "name each gateway that it may use by its host and its port",
        )
    return chosen(fleet, given, port, () if terms.tls else others)


def unmatched_terms(fleet: Fleet, store: Store) -> list[str]:
    """Return a sentence for each name in [connection] that nothing in the fleet has."""
    known = store.devices()
    types = {one.type for one in known}.union(*(app.types for app in store.apps()))
    return connection.unmatched(connection.load(fleet), types, {one.device for one in known})
