"""What a manifest needs and nothing else does: the release keys' verifiers, and the modules that are forgotten once it was judged, 30 KB that a download or
an application can use."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

JUDGES = (
    "wire.suit",
    "wire.suit_commands",
    "wire.suit_labels",
    "wire.cose",
    "wire.cbor_reader",
    "crypto.p256",
    "crypto._p256_curve",
    "crypto._p256_native",
    "crypto._p256_plain",
    "crypto._p256_table",
    "crypto._p256_vm",
    "crypto.rsa",
)


def verifiers(keys: "list[bytes]") -> "list[Any]":
    """Release keys, as the record `release` has them: 64 bytes of a P-256 key, or an RSA modulus."""
    from .crypto import p256, rsa

    return [p256.PublicKey(key) if len(key) == 64 else rsa.PublicKey(key) for key in keys]


def forget() -> None:
    for name in JUDGES:
        sys.modules.pop("warden." + name, None)
        package, _, module = name.partition(".")
        parent = sys.modules.get("warden." + package)
        if parent is not None and hasattr(parent, module):
            delattr(parent, module)
