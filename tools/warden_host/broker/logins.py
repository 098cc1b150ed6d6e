"""Say who was refused at the broker, and why, as likely as the log and fleet.db allow."""

from collections.abc import Iterator
from dataclasses import dataclass

from warden_host import jsontext, names
from warden_host.broker.backend import LOGIN, RefusedLogin, read_refused_logins
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Device, Store

_REASONS = {
    "certificate-untrusted": (
        "the client does not trust the broker's certificate: it is of another fleet, or has an "
        "older CA"
    ),
    "no-tls": "it speaks no TLS: a client set up without it, or a scan",
    "own-certificate-refused": "its certificate is missing, revoked, expired or of another fleet",
}
_MOST_NAMED = 3


@dataclass(frozen=True)
class Knock:
    """Refused log-ins of one client for one reason.

    clients: its name, or those that it may be. devices: which of them are devices of this fleet.
    text: who, from where and why.
    """

    time: float
    first: float
    code: str
    clients: tuple[str, ...]
    addresses: tuple[str, ...]
    devices: tuple[str, ...]
    text: str
    n: int = 1


def describe(store: Store, one: RefusedLogin) -> Knock:
    """Return a refused log-in with its likely client and reason."""
    clients = (one.client,) if one.client else _likely(store, one.absent)
    found = [device for client in clients if (device := _device(store, client)) is not None]
    reason = _REASONS.get(one.code) or _reason(store, clients, found)
    shown = [jsontext.printable(client[:80]) for client in clients]
    who = f"{'' if one.client else 'likely '}{' or '.join(shown)}" if shown else "a client"
    where = f" from {' or '.join(one.addresses)}" if one.addresses else ""
    ids = tuple(device.device for device in found)
    text = f"{who}{where}: {reason}"
    return Knock(one.time, one.time, one.code, clients, one.addresses, ids, text)


def past(fleet: Fleet, store: Store, since: float) -> Iterator[Knock]:
    """Yield what the broker's log still holds, one of each client, address and reason."""
    found: dict[tuple[str, ...], tuple[RefusedLogin, float, int]] = {}
    for one in read_refused_logins(fleet):
        if one.time >= since and not one.client.startswith(names.PROBE):
            _, first, count = found.get(one.key, (one, one.time, 0))
            found[one.key] = one, first, count + 1
    for one, first, count in found.values():
        knock = describe(store, one)
        yield Knock(**(vars(knock) | {"first": first, "n": count}))


def _likely(store: Store, absent: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of the clients it may be: revoked ones first; () where that says nothing."""
    revoked = tuple(client for client in absent if _revoked(_device(store, client)))
    found = revoked or absent
    return found if len(found) <= _MOST_NAMED else ()


def _device(store: Store, client: str) -> Device | None:
    """Return the device that logs in by this name, as far as its type and ID say."""
    try:
        type_, device = names.parse_device_client(client)
    except HostError:
        return None
    found = store.find(device)
    return found if found is not None and found.type == type_ else None


def _revoked(device: Device | None) -> bool:
    return device is not None and device.ending is not None and device.ending.revoked


def _reason(store: Store, clients: tuple[str, ...], devices: list[Device]) -> str:
    if devices:
        if all(_revoked(device) for device in devices):
            return "it is revoked, and still tries"
        return (
            "a wrong password: provisioned again since, put back from an old copy, or another "
            "client under its name"
        )
    kind, _, name = clients[0].partition(":") if clients else ("", "", "")
    if kind in ("d", "b"):
        return "no device of this type and ID is in the fleet: removed, wiped or of another one"
    if kind == "a":
        known = name in {app.appid for app in store.apps()}
        return "a wrong password" if known else "no such application is registered"
    if kind == "t":
        return "a token that is unknown, revoked or expired"
    return "a name that is none of this fleet, or a wrong password"


__all__ = ("LOGIN", "Knock", "RefusedLogin", "describe", "past")
