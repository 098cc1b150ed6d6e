"""Manage the release keys: devices install what one of these keys signed.

keys/release/NAME.pub   the public part, PEM
keys/release/NAME.key   the private part under a passphrase; absent when it is in an HSM or a safe

A device gets the public parts when it is provisioned, at most four: one for daily use and a backup
that is kept apart, so that losing one key does not end updates.
"""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from warden_client import secretfile
from warden_client.protocol import strictcbor

from warden_host import names
from warden_host.errors import HostError
from warden_host.fleet import sealed_pem
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.sealed_pem import PrivateKey

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
MAX_KEYS = 4
MAX_PEM = 8192
# COSE algorithm numbers (RFC 9053). The device also takes -9, the fully specified form of -7.
ALGORITHMS = {"ES256": -7, "PS256": -37}
KINDS = {"p256": "ES256", "rsa": "PS256"}
_RSA_BITS = 3072
_RSA_SIZES = (2048, 3072, 4096)
SIGNATURE_BYTES = {"ES256": 64, "PS256": max(_RSA_SIZES) // 8}  # at most
_EXPONENT = 65537
_PSS_SALT = 32


@dataclass(frozen=True)
class ReleaseKey:
    """A public key. here: whether its private part is in this fleet's folder."""

    name: str
    public: PublicKey
    here: bool

    @property
    def algorithm(self) -> str:
        return algorithm_of(self.public)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public)


def make(fleet: Fleet, name: str, kind: str, passphrase: bytes) -> ReleaseKey:
    """Make a release key of this fleet.

    kind: p256 or rsa.
    Raises release-key, passphrase-wrong, bad-name.
    """
    _room(fleet, name)
    key: PrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(_EXPONENT, _RSA_BITS)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    sealed = sealed_pem.seal(key, passphrase)
    folder = _folder(fleet)
    folder.mkdir(mode=0o700, exist_ok=True)
    # The public part last: without it there is no such key, and a cut leaves nothing half done.
    secretfile.write(folder / f"{name}.key", sealed)
    secretfile.write(folder / f"{name}.pub", public_pem(key.public_key()))
    return ReleaseKey(name, key.public_key(), True)


def add(fleet: Fleet, name: str, public: PublicKey) -> ReleaseKey:
    """Add the public part of a key that signs elsewhere. Raises release-key, bad-name."""
    _room(fleet, name)
    for known in listed(fleet):
        if material(known.public) == material(public):
            raise HostError("release-key", f"this key is here already, as {known.name}")
    _folder(fleet).mkdir(mode=0o700, exist_ok=True)
    secretfile.write(_folder(fleet) / f"{name}.pub", public_pem(public))
    return ReleaseKey(name, public, False)


def remove(fleet: Fleet, name: str) -> ReleaseKey:
    """Remove a release key.

    Devices that know it keep it until `warden rotate`; those provisioned later never get it.
    """
    gone = find(fleet, name)
    folder = _folder(fleet)
    (folder / f"{name}.pub").unlink()
    (folder / f"{name}.key").unlink(missing_ok=True)
    return gone


def listed(fleet: Fleet) -> list[ReleaseKey]:
    """Return the release keys by name. Raises key-damaged, key-permissions."""
    folder = _folder(fleet)
    return [
        ReleaseKey(path.stem, load_public(path), path.with_suffix(".key").exists())
        for path in sorted(folder.glob("*.pub"))
    ]


def find(fleet: Fleet, name: str = "") -> ReleaseKey:
    """Return the key of this name; for "" the only key whose private part is here.

    Raises release-key.
    """
    known = listed(fleet)
    fitting = [key for key in known if key.name == name or (not name and key.here)]
    if len(fitting) == 1:
        return fitting[0]
    have = ", ".join(key.name for key in known) or "none"
    if name:
        raise HostError("release-key", f"no release key {name} in this fleet", f"it has: {have}")
    if fitting:
        raise HostError("release-key", "several keys could sign", f"name one of them: {have}")
    raise HostError(
        "release-key",
        "no release key can sign here",
        "`warden keys make release` makes one; a key elsewhere signs an unsigned release",
    )


def open_private(fleet: Fleet, key: ReleaseKey, passphrase: bytes) -> PrivateKey:
    """Return the private key. Raises release-key, passphrase-wrong, key-damaged."""
    if not key.here:
        raise HostError(
            "release-key",
            f"the private part of {key.name} is not here",
            "make an unsigned release, and sign it where the key is",
        )
    private = sealed_pem.unseal(secretfile.read(_folder(fleet) / f"{key.name}.key"), passphrase)
    if material(private.public_key()) != material(key.public):
        raise HostError("key-damaged", f"{key.name}.key and {key.name}.pub are not one key")
    return private


def record(fleet: Fleet, vendor: bytes, type_: str) -> list[object] | None:
    """Return the record of a device type: [vendor, class, [key, …]].

    Returns None in a fleet without release keys.
    """
    keys = [material(key.public) for key in listed(fleet)]
    return [vendor, class_id(vendor, type_), keys] if keys else None


def class_id(vendor: bytes, type_: str) -> bytes:
    """Return the UUID version 5 of the type's name, in the vendor's name space (RFC 9562 §5.5)."""
    return uuid.uuid5(uuid.UUID(bytes=vendor), type_).bytes


# Keys and signatures


def load_public(path: Path) -> PublicKey:
    """Read the PEM file of a public key of a kind that devices support.

    Raises key-damaged, key-missing.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PEM + 1)
    except FileNotFoundError:
        raise HostError("key-missing", f"{path.name} is not there") from None
    try:
        key = serialization.load_pem_public_key(data) if len(data) <= MAX_PEM else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_SIZES:
        if key.public_numbers().e == _EXPONENT:
            return key
    raise HostError(
        "key-damaged",
        f"{path.name} is no public key that a device can use",
        "PEM of a P-256 key, or of an RSA key of 2048, 3072 or 4096 bits with exponent 65537",
    )


def public_pem(key: PublicKey) -> bytes:
    """Return the public key as PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def algorithm_of(key: PublicKey) -> str:
    """Return the COSE algorithm of a key: ES256 or PS256."""
    return "ES256" if isinstance(key, ec.EllipticCurvePublicKey) else "PS256"


def material(key: PublicKey) -> bytes:
    """Return the key as devices store it: x ‖ y of a P-256 key, or an RSA modulus."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        numbers = key.public_numbers()
        return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    return key.public_numbers().n.to_bytes(key.key_size // 8, "big")


def fingerprint(key: PublicKey) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo, as for pins."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Return a COSE signature: r ‖ s, or PSS with a salt of 32 bytes.

    RFC 9053 §2.1, RFC 8230 §2.
    """
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return raw_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), _PSS_SALT), hashes.SHA256())


def sign_payload(key: PrivateKey, payload: bytes) -> bytes:
    """Return a COSE_Sign1 (RFC 9052 §4.2) with the payload detached, untagged."""
    protected = strictcbor.encode({1: ALGORITHMS[algorithm_of(key.public_key())]})
    signature = sign(key, sign1_structure(protected, payload))
    return strictcbor.encode([protected, {}, None, signature])


def sign1_structure(protected: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure (RFC 9052 §4.4)."""
    return strictcbor.encode(["Signature1", protected, b"", payload])


def verifies(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Return whether this key signed the data. signature: in COSE's form."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            if len(signature) != 64:
                return False
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        else:
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), _PSS_SALT)
            key.verify(signature, data, scheme, hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def raw_signature(der: bytes) -> bytes:
    """Return r ‖ s of an ECDSA signature in DER, the form of OpenSSL and most HSMs.

    Raises ValueError for anything else.
    """
    r, s = decode_dss_signature(der)
    if max(r, s) >> 256:
        raise ValueError("out of range")
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _folder(fleet: Fleet) -> Path:
    return fleet.keys / "release"


def _room(fleet: Fleet, name: str) -> None:
    names.check_id(name, "key name")
    known = [key.name for key in listed(fleet)]
    if name in known:
        raise HostError(
            "release-key", f"there is a release key {name} already", "choose another name"
        )
    if len(known) >= MAX_KEYS:
        raise HostError("release-key", f"a device takes {MAX_KEYS} release keys at most")
