"""Issue and revoke devices' certificates, and keep the broker's revocation list.

The list is written whole from fleet.db each time, by one rename. The broker reads it on a signal;
after each one a good and a revoked certificate are tried, so that a list which the broker did not
take is noticed at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from warden_host import filelock
from warden_host.broker import certificate_check, connection
from warden_host.broker.backend import wanted_listeners
from warden_host.errors import HostError
from warden_host.fleet import client_pki
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.pki import CertificateAuthority
from warden_host.store.certificates import Certificate
from warden_host.store.store import Device, Store

_KEPT_S = 86400  # an expired certificate stays on the list so long: the broker's clock may be off
_TURN_S = 60.0
_RSA_MESSAGE = 4096
_PROBE = "warden-probe"  # no account has this name, so the certificate has no rights
_PROBE_LIFE = timedelta(hours=1)

Reload = Callable[[], None]


@dataclass(frozen=True)
class Issued:
    """A new certificate, its chain, and its key where the host made it. DER all."""

    row: Certificate
    leaf: bytes
    intermediate: bytes
    key: bytes | None = field(default=None, repr=False)

    def record(self) -> list[object]:
        """Return it as a bundle or a rotation holds it."""
        return [self.leaf, self.intermediate, self.key]


def issue(
    ca: CertificateAuthority,
    device: Device,
    kind: str,
    days: int = client_pki.DEFAULT_DAYS,
    point: bytes | None = None,
) -> Issued:
    """Return a certificate for a device; the caller stores its row.

    kind: one of client_pki.KINDS. point: the public key that the device made, x ‖ y; None: the key
    is made here. Raises bad-argument, bad-body.
    """
    if not client_pki.MIN_DAYS <= days <= client_pki.MAX_DAYS:
        raise HostError(
            "bad-argument",
            f"a certificate is valid for {client_pki.MIN_DAYS} to {client_pki.MAX_DAYS} days",
        )
    key = client_pki.new_key(kind) if point is None else None
    public = key.public_key() if key is not None else client_pki.point_key(point or b"")
    terms = connection.of_record(device.policy)
    name = terms.certificate_name(device.type, device.device)
    leaf = client_pki.issue(ca, name, public, timedelta(days=days))
    der = leaf.public_bytes(serialization.Encoding.DER)
    row = Certificate(
        serial=f"{leaf.serial_number:x}",
        device=device.device,
        type=device.type,
        name=name,
        kind=kind,
        made_on="host" if point is None else "device",
        issued=time.time(),
        expires=leaf.not_valid_after_utc.timestamp(),
        der=der,
    )
    return Issued(row, der, ca.der(), None if key is None else client_pki.key_der(key))


def with_room(limits: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a policy's limits with room for a new RSA certificate in one message.

    Raises bad-argument where they name less.
    """
    if kind != "rsa":
        return limits
    wanted = {"max_message": _RSA_MESSAGE} | limits
    if wanted["max_message"] < _RSA_MESSAGE:
        text = f"a new RSA certificate is a message of up to {_RSA_MESSAGE} bytes"
        raise HostError("bad-argument", text, "allow messages of that size, or take a P-256 key")
    return wanted


def serial_of(leaf: bytes) -> str:
    """Return the serial number of a certificate in DER, as its row has it."""
    return f"{x509.load_der_x509_certificate(leaf).serial_number:x}"


def update_crl(
    fleet: Fleet, store: Store, ca: CertificateAuthority, reload: Reload | None
) -> None:
    """Write the revocation list from fleet.db, let the broker read it, and see that it did.

    reload: lets a running broker read it; None where none runs. Raises crl-damaged, unreachable.
    """
    with filelock.wait_for_lock(fleet.broker / "crl.lock", "writing the revocation list", _TURN_S):
        _update_crl(fleet, store, ca, reload)


def _update_crl(
    fleet: Fleet, store: Store, ca: CertificateAuthority, reload: Reload | None
) -> None:
    now = time.time()
    with store.transaction():
        store.remove_expired_certificates(now - _KEPT_S)
    listed = [
        client_pki.Revoked(int(row.serial, 16), row.revoked)
        for row in store.certificates()
        if row.revoked is not None
    ]
    key = client_pki.new_key("ec")
    good, bad = (client_pki.issue(ca, _PROBE, key.public_key(), _PROBE_LIFE) for _ in range(2))
    listed.append(client_pki.Revoked(bad.serial_number, now))
    client_pki.write_crl(fleet, client_pki.make_crl(ca, listed), ca.certificate)
    if reload is None:
        return
    reload()
    listeners = [one for one in wanted_listeners(fleet) if one.wants_certificate]

    def accepted(certificate: x509.Certificate) -> list[bool]:
        return [certificate_check.is_accepted(fleet, certificate, key, one) for one in listeners]

    certificate_check.wait_applied(
        good=lambda: all(accepted(good)), revoked=lambda: any(accepted(bad))
    )


def crl_is_due(fleet: Fleet, store: Store) -> bool:
    """Return whether the list must be written: near its end, damaged, or without a revoked one."""
    try:
        crl = client_pki.load_crl(fleet)
    except HostError as error:
        if error.code != "crl-damaged":
            raise
        return True
    now = datetime.now(UTC)
    end = crl.next_update_utc
    if end is None or end - now < client_pki.CRL_RENEWED_BEFORE:
        return True
    return any(
        row.revoked is not None
        and row.expires > now.timestamp()
        and not _is_listed(crl, int(row.serial, 16))
        for row in store.certificates()
    )


def _is_listed(crl: x509.CertificateRevocationList, serial: int) -> bool:
    return crl.get_revoked_certificate_by_serial_number(serial) is not None
