"""Read the table [connection] of warden.toml: how devices log in, and whether over TLS.

A fleet's default, and beneath it what types and single devices have instead. It counts when a
device is provisioned: then it is part of the policy record that the device enforces. The broker's
listeners follow from both: of the devices that are there, and of what new ones will need.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from warden_host import names
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet, check_keys, malformed, meant
from warden_host.protocol import policy

TABLE = "connection"
# The second of two switches for a link without TLS; `tls = false` is the first.
ACCEPTED = "messages_readable_on_the_network"
BARE_PORT = 1883
CERTIFICATE_PORT = 8884
BOTH_PORT = 8885
_TERMS = {"auth", "tls"}
_OVERRIDES = {"type", "device"}
_OWN = {ACCEPTED, "bare_port", "certificate_port", "both_port", "renew_days"}
RENEW_DAYS, _MOST_RENEW_DAYS = 30, 365


class Listener(Enum):
    """A listener of the broker for devices: what it demands of them before the log-in."""

    TLS = "tls"  # TLS; the log-in's password is a password or a token
    CERTIFICATE = "certificate"  # TLS with a client certificate, which is the log-in
    BOTH = "both"  # TLS with a client certificate, and a log-in as well
    BARE = "bare"  # no TLS

    @property
    def words(self) -> str:
        """Return what the listener is for, as in "the listener for certificates"."""
        return {
            "tls": "with TLS",
            "certificate": "for certificates",
            "both": "for a certificate and a log-in",
            "bare": "without TLS",
        }[self.value]

    @property
    def wants_certificate(self) -> bool:
        """Return whether it takes no connection without a certificate of the fleet."""
        return self in (Listener.CERTIFICATE, Listener.BOTH)


@dataclass(frozen=True)
class Terms:
    """How a device connects: the policy's `auth` and `tls`."""

    auth: str = "password"
    tls: bool = True

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Return the listeners that a device with these terms may use, the preferred one first."""
        if not self.tls:
            return (Listener.BARE,)
        if self.needs_both:
            return (Listener.BOTH,)
        if self.has_choice:
            return (Listener.CERTIFICATE, Listener.TLS)
        return (Listener.CERTIFICATE,) if self.auth == "certificate" else (Listener.TLS,)

    @property
    def needs_both(self) -> bool:
        """Return whether a certificate and a password or token are needed together."""
        return "-and-" in self.auth

    @property
    def has_choice(self) -> bool:
        """Return whether a certificate, and a password or token, open the connection each."""
        return "-or-" in self.auth

    @property
    def words(self) -> str:
        """Return what the device logs in by, as in "it logs in by its certificate"."""
        return "its " + self.auth.replace("-and-", " and its ").replace("-or-", " or its ")

    def uses(self, part: str) -> bool:
        """Return whether the device has this part: password, token or certificate."""
        return part in self.auth.split("-")

    def way(self, listener: Listener) -> str:
        """Return the part that the device with a choice logs in by at this listener."""
        return "certificate" if listener.wants_certificate else self.auth.split("-")[-1]

    def certificate_name(self, type_: str, device: str) -> str:
        """Return the name in the device's certificate.

        At the listener for certificates it is the user name. A device that needs both has another
        one, which no account has: there its certificate alone opens nothing.
        """
        make = names.certified_name if self.needs_both else names.device_client
        return make(type_, device)

    def client_id(self, type_: str, device: str) -> str:
        """Return the client ID that the device logs in under."""
        bound = self.needs_both and self.uses("password")
        return (names.certified_client if bound else names.device_client)(type_, device)

    def __str__(self) -> str:
        return self.auth if self.tls else f"{self.auth}, no TLS"


@dataclass(frozen=True)
class ConnectionSettings:
    """The content of [connection].

    bare_port: of the listener without TLS; 0 for none: gateways take its place.
    certificate_port: of the one for devices with a certificate. both_port: of the one that wants
    a log-in besides. accepts_bare: whether the second switch allows a link without TLS.
    renew_days: before its end a certificate is renewed so many days; 0 for never.
    """

    default: Terms
    types: dict[str, Terms]
    devices: dict[str, Terms]
    bare_port: int = BARE_PORT
    certificate_port: int = CERTIFICATE_PORT
    accepts_bare: bool = False
    both_port: int = BOTH_PORT
    renew_days: int = RENEW_DAYS

    def port(self, listener: Listener, tls_port: int) -> int:
        """Return a listener's port. tls_port: of the one with TLS and a log-in."""
        ports = {
            Listener.CERTIFICATE: self.certificate_port,
            Listener.BOTH: self.both_port,
            Listener.BARE: self.bare_port,
        }
        return ports.get(listener, tls_port)

    def terms(self, type_: str, device: str) -> Terms:
        """Return a device's terms: its own, else its type's, else the fleet's."""
        return self.devices.get(device) or self.types.get(type_) or self.default

    def listeners(self, present: Iterable[Terms]) -> list[Listener]:
        """Return the listeners that the broker has, in order. present: of the devices there are.

        The one with TLS and a password is always there: applications use it.
        """
        wanted = {Listener.TLS}
        for terms in (*present, self.default, *self.types.values(), *self.devices.values()):
            wanted.update(terms.listeners)
        if not self.bare_port:
            wanted.discard(Listener.BARE)
        return [one for one in Listener if one in wanted]

    @property
    def asks_for_bare(self) -> bool:
        """Return whether warden.toml gives a device a link without TLS."""
        terms = (self.default, *self.types.values(), *self.devices.values())
        return not all(one.tls for one in terms)


def load(fleet: Fleet) -> ConnectionSettings:
    """Return what warden.toml says of connections; without a table, a password over TLS.

    Raises config-malformed for an unknown key or value, and for a link without TLS that is not
    accepted by its second switch.
    """
    table = check_keys(fleet.document.get(TABLE, {}), _TERMS | _OVERRIDES | _OWN, TABLE)
    default = _terms(table, Terms(), TABLE)
    found: dict[str, dict[str, Terms]] = {}
    for kind in ("type", "device"):
        one = f"{TABLE}.{kind}"
        named = table.get(kind, {})
        if not isinstance(named, dict):
            raise malformed(f"[{one}] is no table")
        found[kind] = {
            _checked_name(name, kind): _terms(
                check_keys(below, _TERMS, f"{one}.{name}"), default, f"{one}.{name}"
            )
            for name, below in named.items()
        }
    broker = fleet.settings.broker
    taken = [broker.port, broker.admin_port]
    bare_port = 0 if _is_zero(table.get("bare_port")) else _port(table, "bare_port", BARE_PORT)
    certificate_port = _port(table, "certificate_port", CERTIFICATE_PORT)
    both_port = _port(table, "both_port", BOTH_PORT)
    accepts_bare = table.get(ACCEPTED) is True
    settings = ConnectionSettings(
        default,
        found["type"],
        found["device"],
        bare_port,
        certificate_port,
        accepts_bare,
        both_port,
        _renew_days(table),
    )
    wanted = settings.listeners(())
    if settings.asks_for_bare and not accepts_bare:
        raise malformed(
            f"{TABLE} has tls = false: all on the network then see who sends what and when, and "
            f"the log-in's password; set {TABLE}.{ACCEPTED} = true as well, if that is meant"
        )
    for listener, key, port in (
        (Listener.BARE, "bare_port", bare_port),
        (Listener.CERTIFICATE, "certificate_port", certificate_port),
        (Listener.BOTH, "both_port", both_port),
    ):
        if listener in wanted:
            if port in taken:
                raise malformed(f"{TABLE}.{key} is another listener's port")
            taken.append(port)
    return settings


def check_bare(settings: ConnectionSettings, listeners: list[Listener]) -> None:
    """Raise config-malformed for a listener without TLS that the second switch does not allow.

    listeners: of the broker that is about to start, for the devices that there are.
    """
    if Listener.BARE in listeners and not settings.accepts_bare:
        raise malformed(
            f"a device was provisioned without TLS, and {TABLE}.{ACCEPTED} is not true: set it, "
            "or revoke that device, or provision it again"
        )


def _checked_name(name: str, kind: str) -> str:
    """Return a name that a device or a type can have; raises config-malformed."""
    try:
        return names.check_id(name, f"{TABLE}.{kind}:")
    except HostError as error:
        raise malformed(error.text) from None


def unmatched(
    settings: ConnectionSettings, types: Collection[str], devices: Collection[str]
) -> list[str]:
    """Return a sentence for each name of [connection] that no type or device has.

    They may come later, so such a name is no error; a misspelt one leaves its device to the
    fleet's terms. types, devices: of the fleet.
    """
    found = []
    for kind, listed, present in (
        ("type", settings.types, types),
        ("device", settings.devices, devices),
    ):
        for name in listed:
            if name not in present:
                others = [one for one in present if one not in listed]
                text = f"[{TABLE}.{kind}.{name}] is about no {kind} of this fleet"
                found.append(text + meant(name, others))
    return found


def _renew_days(table: dict[str, Any]) -> int:
    days = table.get("renew_days", RENEW_DAYS)
    if type(days) is not int or not 0 <= days <= _MOST_RENEW_DAYS:
        raise malformed(f"{TABLE}.renew_days is not between 0 and {_MOST_RENEW_DAYS}")
    return days


def _is_zero(value: Any) -> bool:
    return type(value) is int and value == 0


def _port(table: dict[str, Any], key: str, plain: int) -> int:
    port = table.get(key, plain)
    if type(port) is not int or not 1 <= port <= 65535:
        raise malformed(f"{TABLE}.{key} is no TCP port")
    return port


def of_record(record: bytes) -> Terms:
    """Return the terms of a policy record. Raises bad-policy, cbor-…"""
    found = policy.connection(record)
    return Terms(found["auth"], found["tls"])


def _terms(table: dict[str, Any], default: Terms, where: str) -> Terms:
    auth, tls = table.get("auth", default.auth), table.get("tls", default.tls)
    if auth not in policy.AUTH:
        raise malformed(f"{where}.auth is none of {', '.join(policy.AUTH)}")
    if not isinstance(tls, bool):
        raise malformed(f"{where}.tls is not true or false")
    if not tls and auth != "password":
        raise malformed(f"{where}: without TLS only auth password is safe")
    return replace(default, auth=auth, tls=tls)
