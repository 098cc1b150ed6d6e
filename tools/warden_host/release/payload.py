"""Encrypt images (docs/update.md, Encrypted payloads).

Each release has one content key, which is wrapped for each device that may read the release.
"""

import secrets
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from warden_client.protocol import strictcbor

from warden_host.names import AUTHORITY, Address
from warden_host.release.manifest import ENCRYPT0_TAG

KEY = 32
TAG = 16
SEGMENT = 1008  # of the plain image; 1,024 bytes with its tag
_ALGORITHM = -70001  # private use: Warden's segments under AES-CCM-16-128-256
_NONCE = 13
_KID = 8


def new_key() -> bytes:
    """Draw a content key."""
    return secrets.token_bytes(KEY)


def encryption_info(cek: bytes) -> bytes:
    """Return the COSE_Encrypt0 that names the key, for the manifest's parameter 19."""
    return _info(_derived(cek, ["payload kid"], _KID))


def key_name(info: bytes) -> bytes | None:
    """Return the kid of encryption_info(); None for any other form, which devices refuse."""
    kid = info[12:20]
    return kid if len(kid) == _KID and info == _info(kid) else None


def _info(kid: bytes) -> bytes:
    protected = strictcbor.encode({1: _ALGORITHM, 4: kid})
    return ENCRYPT0_TAG + strictcbor.encode([protected, {}, None])


def length(size: int) -> int:
    """Return the ciphertext length in bytes of an image of this size."""
    return size + TAG * -(-size // SEGMENT)


def encrypt(
    cek: bytes, sequence: int, component: str, size: int, digest: bytes, plain: BinaryIO
) -> Iterator[bytes]:
    """Yield the ciphertext, segment by segment.

    The key is derived for this image alone, so the counting nonce never meets another plaintext.
    """
    key = AESCCM(_image_key(cek, sequence, component, size, digest), TAG)
    number = 0
    while piece := plain.read(SEGMENT):
        yield key.encrypt(_nonce(number), piece, None)
        number += 1


def decrypt(
    cek: bytes, sequence: int, component: str, size: int, digest: bytes, sealed: BinaryIO
) -> Iterator[bytes]:
    """Yield the plain image. Raises cryptography's InvalidTag for a segment that was changed."""
    key = AESCCM(_image_key(cek, sequence, component, size, digest), TAG)
    number = 0
    while piece := sealed.read(SEGMENT + TAG):
        yield key.decrypt(_nonce(number), piece, None)
        number += 1


def wrap(cek: bytes, k: bytes, address: Address, digest: bytes) -> bytes:
    """Return the content key, wrapped for one device and one manifest.

    k: the key that the device shares with the authority.
    digest: the SUIT digest of the manifest.
    """
    info = [1, address.type, address.device, AUTHORITY]
    kek = _derived(k, ["payload", *info], KEY)
    nonce = secrets.token_bytes(_NONCE)
    aad = strictcbor.encode(["warden1", "payload key", digest])
    return nonce + AESCCM(kek, TAG).encrypt(nonce, cek, aad)


def _image_key(cek: bytes, sequence: int, component: str, size: int, digest: bytes) -> bytes:
    return _derived(cek, ["payload", sequence, component, size, digest], KEY)


def _nonce(number: int) -> bytes:
    return number.to_bytes(_NONCE, "big")


def _derived(secret: bytes, info: list[object], size: int) -> bytes:
    context = strictcbor.encode(["warden1", *info])
    return HKDF(SHA256(), size, None, context).derive(secret)
