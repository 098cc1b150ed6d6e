"""Renew the server's certificate, and its key, while devices are connected.

A new key is the backup key, which every device pins already. Files change in this order, so that
each stop leaves a server that devices accept, and finish() completes the rest: server.crt, then
server.key, then a new backup.key.
"""

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable

from cryptography import x509
from warden_client import secretfile

from warden_host.errors import HostError
from warden_host.fleet import pki, tls
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.pki import CertificateAuthority
from warden_host.protocol import policy
from warden_host.store.store import Store

_CONNECT_S = 5.0
_APPLIED_S = 15.0
_PAUSE_S = 0.05


def names(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses that a server certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    hosts: list[str] = found.get_values_for_type(x509.DNSName)
    return hosts + [str(address) for address in found.get_values_for_type(x509.IPAddress)]


def check_names(fleet: Fleet) -> None:
    """Raise certificate-name where the server's certificate lacks a name of warden.toml."""
    settings = fleet.settings.broker
    present = names(pki.load_certificate(fleet.keys / "server.crt"))
    for host in (settings.host, settings.contact, *settings.names):
        if not any(_same(host, name) for name in present):
            raise HostError(
                "certificate-name",
                f"warden.toml names {host}, and the server's certificate is for "
                f"{', '.join(present)}: devices would refuse it",
                "`warden cert renew-server` issues one for it, or put the name back",
            )


def unpinned(fleet: Fleet, store: Store) -> list[str]:
    """Return the devices that may not pin the backup key: they would refuse it as the server's.

    One without TLS refuses no server.
    """
    backup = pki.pin(pki.load_key(fleet.keys / "backup.key"))
    return [
        known.device
        for known in store.devices()
        if not (known.ending is not None and known.ending.revoked)
        and policy.connection(known.policy)["tls"]
        and backup not in store.pins(known.device)
    ]


def renew(
    fleet: Fleet,
    store: Store,
    ca: CertificateAuthority,
    reload: Callable[[], None] | None,
    *,
    new_key: bool,
    drop: tuple[str, ...] = (),
) -> list[str]:
    """Issue a new server certificate, and let a running broker use it; return its names.

    The names are those of the present one and of warden.toml, without those to drop. reload: lets
    the broker read it. new_key: take the backup key. Raises not-applicable where a device does not
    pin that; certificate-name for a name that warden.toml needs; broker-failed.
    """
    finish(fleet)
    settings, keys = fleet.settings.broker, fleet.keys
    wanted = (settings.host, settings.contact, *settings.names)
    needless = [name for name in drop if any(_same(name, host) for host in wanted)]
    if needless:
        raise HostError(
            "certificate-name",
            f"warden.toml names {needless[0]}, so the certificate keeps it",
            "change broker.host and broker.names first",
        )
    kept = names(pki.load_certificate(keys / "server.crt"))
    hosts = [host for host in (*kept, *wanted) if not any(_same(host, name) for name in drop)]
    if new_key:
        missing = unpinned(fleet, store)
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise HostError(
                "not-applicable",
                "these devices are not known to pin the backup key: "
                f"{', '.join(missing[:5])}{more}",
                "rotate the pins of each first",
            )
    key = pki.load_key(keys / ("backup.key" if new_key else "server.key"))
    leaf = ca.issue(tuple(dict.fromkeys(hosts)), key=key)
    secretfile.write(keys / "server.crt", leaf.certificate_pem())
    finish(fleet)
    if reload is not None:
        reload()
        _wait_served(fleet, leaf.certificate)
    return names(leaf.certificate)


def finish(fleet: Fleet) -> None:
    """Complete a renewal that stopped between two files."""
    keys = fleet.keys
    live, backup = pki.load_pins(keys)
    if live == backup:
        secretfile.write(keys / "server.key", pki.private_pem(pki.load_key(keys / "backup.key")))
        pki.renew_backup(keys)


def _wait_served(fleet: Fleet, certificate: x509.Certificate) -> None:
    """Wait until the broker shows the certificate. Raises broker-failed."""
    wanted = certificate.public_bytes(pki.DER)
    end = time.monotonic() + _APPLIED_S
    while _served(fleet) != wanted:
        if time.monotonic() > end:
            raise HostError(
                "broker-failed",
                "the broker still shows the old certificate",
                "start `warden serve` again; see the log in the fleet's folder broker/",
            )
        time.sleep(_PAUSE_S)


def _served(fleet: Fleet) -> bytes | None:
    settings = fleet.settings.broker
    context = tls.context(fleet)
    with contextlib.suppress(OSError, ssl.SSLError):
        address = (settings.contact, settings.port)
        with (
            socket.create_connection(address, _CONNECT_S) as raw,
            context.wrap_socket(raw, server_hostname=settings.contact) as connection,
        ):
            return connection.getpeercert(binary_form=True)
    return None


def _same(host: str, name: str) -> bool:
    """Return whether two texts name one host: addresses have several forms."""
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        return host.lower() == name.lower()
