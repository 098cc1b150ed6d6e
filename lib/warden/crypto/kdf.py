"""HMAC-SHA-256 and the key derivations on top of it: HKDF.

Stock firmware has SHA-256 and no `hmac`. The pads are XORed as one big integer: 64 bytes at the
speed of C.
"""

import hashlib

from micropython import const

from ..errors import ensure

_BLOCK = const(64)
_DIGEST = const(32)


def hmac_sha256(
    key: "bytes | bytearray | memoryview", *parts: "bytes | bytearray | memoryview"
) -> bytes:
    """Return HMAC-SHA-256 of the joined parts, 32 bytes (RFC 2104).

    Compare it with `ct.equal`, never with `==`.
    """
    # RFC 2104 §2: a long key is hashed, a short one is filled with zeros on the right.
    if len(key) > _BLOCK:
        key = hashlib.sha256(key).digest()
    k = int.from_bytes(bytes(key) + bytes(_BLOCK - len(key)), "big")
    h = hashlib.sha256((k ^ int.from_bytes(b"\x36" * _BLOCK, "big")).to_bytes(_BLOCK, "big"))
    for part in parts:
        h.update(part)
    o = hashlib.sha256((k ^ int.from_bytes(b"\x5c" * _BLOCK, "big")).to_bytes(_BLOCK, "big"))
    o.update(h.digest())
    return o.digest()


def hkdf_extract(
    salt: "bytes | bytearray | memoryview", key: "bytes | bytearray | memoryview"
) -> bytes:
    """Return the pseudorandom key, 32 bytes, of input keying material (RFC 5869 §2.2).

    salt: empty means 32 zero bytes.
    """
    return hmac_sha256(salt if len(salt) else bytes(_DIGEST), key)


def hkdf_expand(key: bytes, info: bytes, n: int) -> bytes:
    """Return n bytes of key for the purpose `info`, at most 8,160 (RFC 5869 §2.3)."""
    ensure(0 < n <= 255 * _DIGEST, "bad-argument", "HKDF gives 1 to 8160 bytes")
    out = b""
    block = b""
    counter = 1
    while len(out) < n:
        block = hmac_sha256(key, block, info, bytes((counter,)))
        out += block
        counter += 1
    return out[:n]


def hkdf(key: "bytes | bytearray", info: bytes, n: int, salt: bytes = b"") -> bytes:
    """Return n bytes of key: extract, then expand (RFC 5869)."""
    return hkdf_expand(hkdf_extract(salt, key), info, n)
