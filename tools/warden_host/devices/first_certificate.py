"""A device's first certificate: issued while the device is provisioned.

fleet.db has it before the device does: a device whose answer was lost may hold it, and what a
device holds can be revoked.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from warden_host.broker import connection
from warden_host.devices import certificates
from warden_host.devices.certificates import Issued
from warden_host.errors import HostError
from warden_host.fleet import client_pki
from warden_host.fleet.fleet import Fleet
from warden_host.store.store import Device, Store


@dataclass(frozen=True)
class CertificateOrder:
    """The certificate of a device whose terms ask for one. passphrase: of the CA's key, or None.

    kind: of client_pki.KINDS. An RSA key is larger, and slower on a board.
    """

    kind: str = "ec"
    days: int = client_pki.DEFAULT_DAYS
    passphrase: bytes | None = field(default=None, repr=False)


def issuer(
    fleet: Fleet, device: Device, wanted: CertificateOrder
) -> Callable[[bytes | None], Issued | None]:
    """Return a function that issues the device's first certificate, for a key of its own or ours.

    A key that is made here is in the bundle and nowhere else. Raises what is known before.
    """
    if not connection.of_record(device.policy).uses("certificate"):
        return lambda _: None
    client_pki.check_exists(fleet)
    ca = client_pki.load_issuer(fleet, wanted.passphrase)
    return lambda point: certificates.issue(ca, device, wanted.kind, wanted.days, point)


@contextlib.contextmanager
def recorded(store: Store) -> Iterator[Callable[[Issued], None]]:
    """Give the block what records a certificate, and revoke that one where the block fails."""
    made: list[str] = []

    def record(issued: Issued) -> None:
        with store.transaction():
            store.add_certificate(issued.row)
        made.append(issued.row.serial)

    try:
        yield record
    except BaseException:
        if not made:
            raise
        with contextlib.suppress(HostError), store.transaction():
            for serial in made:
                store.revoke_certificate(serial, time.time())
        raise
