"""A new certificate for this device: its key is made here where the authority asks for that.

The vault's record `certificate_key` holds the new key until its certificate comes in a command
`rotate`. From then on the record `rotation` holds both, until a connection proved them.
"""

import binascii

from micropython import const

from ..crypto.p256_key import key_der, new_key
from ..errors import PeerError, UsageError
from ..provisioning import bundle
from ..wire import x509

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault


def make_key(vault: "Vault") -> "dict[str, Any]":
    """Return {"key": x ‖ y in hex} of a new key, or of the one that still waits.

    PeerError bad-body: this device has no certificate.
    """
    if "certificate" not in vault.names():
        raise PeerError("bad-body")
    record = vault.get("certificate_key")
    if record is None:
        d, public = new_key()
        record = public + d
        vault.commit({"certificate_key": record})
    return {"key": binascii.hexlify(record[:64]).decode()}


def check(vault: "Vault", certificate: "Any") -> "tuple[list[bytes], bool]":
    """Return [leaf, intermediate, key] as it is kept, and whether its key was made here.

    certificate: the same of a command; key: None for the one of make_key(). PeerError bad-body.
    """
    if "certificate" not in vault.names():
        raise PeerError("bad-body")
    record = None
    if isinstance(certificate, list) and len(certificate) == 3 and certificate[2] is None:
        record = vault.get("certificate_key")
        if record is None:
            raise PeerError("bad-body")
        certificate = certificate[:2] + [key_der(record[64:])]
    try:
        bundle.check_certificate(certificate)
    except UsageError:
        raise PeerError("bad-body")
    # A certificate for another key would be of no use.
    if record is not None and bytes(x509.fields(certificate[0])[0])[-64:] != record[:64]:
        raise PeerError("bad-body")
    return certificate, record is not None
