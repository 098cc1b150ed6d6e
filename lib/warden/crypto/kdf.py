"""HMAC-SHA-256 and the key derivations on top of it: HKDF.

Stock firmware has SHA-256 and no `hmac`. The padded key is made in one buffer that all calls
share: on a board an allocation costs as much as a block of SHA-256. So these functions are not
re-entrant: call them from one thread, never from an interrupt.
"""

import hashlib

from micropython import const

from ..errors import ensure
from ._xor import xor

_BLOCK = const(64)
_DIGEST = const(32)

_pad = bytearray(_BLOCK)
_view = memoryview(_pad)
_zero = bytes(_BLOCK)
# RFC 2104 §2: ipad, and what makes opad of it. Made here: xor() reads them by words, and a
# constant of frozen code lies on any address.
_ipad = bytearray([0x36] * _BLOCK)
_flip = bytearray([0x36 ^ 0x5C] * _BLOCK)


def hmac_sha256(
    key: "bytes | bytearray | memoryview", *parts: "bytes | bytearray | memoryview"
) -> bytes:
    """Return HMAC-SHA-256 of the joined parts, 32 bytes (RFC 2104).

    Compare it with `ct.equal`, never with `==`.
    """
    # RFC 2104 §2: a long key is hashed, a short one is filled with zeros on the right.
    if len(key) > _BLOCK:
        key = hashlib.sha256(key).digest()
    _view[:] = _zero
    _view[: len(key)] = key
    xor(_pad, _ipad, 0, _BLOCK)
    inner = hashlib.sha256(_pad)
    for part in parts:
        inner.update(part)
    xor(_pad, _flip, 0, _BLOCK)
    outer = hashlib.sha256(_pad)
    _view[:] = _zero
    outer.update(inner.digest())
    return outer.digest()


def hkdf_extract(
    salt: "bytes | bytearray | memoryview", key: "bytes | bytearray | memoryview"
) -> bytes:
    """Return the pseudorandom key, 32 bytes, of input keying material (RFC 5869 §2.2).

    salt: empty means 32 zero bytes.
    """
    return hmac_sha256(salt, key)


def hkdf_expand(key: bytes, info: bytes, n: int) -> bytes:
    """Return n bytes of key for the purpose `info`, at most 8,160 (RFC 5869 §2.3)."""
    ensure(0 < n <= 255 * _DIGEST, "bad-argument", "HKDF gives 1 to 8160 bytes")
    out = block = hmac_sha256(key, info, b"\x01")
    counter = 2
    while len(out) < n:
        block = hmac_sha256(key, block, info, bytes((counter,)))
        out += block
        counter += 1
    return out if len(out) == n else out[:n]


def hkdf(key: "bytes | bytearray", info: bytes, n: int, salt: bytes = b"") -> bytes:
    """Return n bytes of key: extract, then expand (RFC 5869)."""
    return hkdf_expand(hkdf_extract(salt, key), info, n)
