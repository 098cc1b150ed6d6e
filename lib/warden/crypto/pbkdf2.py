"""PBKDF2 with HMAC-SHA-256: keys from passwords. Apart from kdf.py, which every device loads."""

import hashlib

from micropython import const

from ..errors import ensure
from .kdf import hmac_sha256

_BLOCK = const(64)
_DIGEST = const(32)


def pbkdf2_sha256(
    password: "bytes | bytearray | memoryview",
    salt: "bytes | bytearray | memoryview",
    iterations: int,
    n: int,
) -> bytes:
    """Return n bytes of key from a password (RFC 8018 §5.2), with HMAC-SHA-256.

    It takes time in proportion to iterations times 32-byte blocks; the length of the password
    shows in it only beyond 64 bytes.
    """
    ensure(iterations > 0, "bad-argument", "at least one iteration")
    ensure(0 < n <= 32 * 255, "bad-argument", "1 to 8160 bytes")
    sha256 = hashlib.sha256
    if len(password) > _BLOCK:
        password = sha256(password).digest()
    k = int.from_bytes(bytes(password) + bytes(_BLOCK - len(password)), "big")
    # The stock SHA-256 object can't be copied, so both pads go in again with each iteration.
    inner = (k ^ int.from_bytes(b"\x36" * _BLOCK, "big")).to_bytes(_BLOCK, "big")
    outer = (k ^ int.from_bytes(b"\x5c" * _BLOCK, "big")).to_bytes(_BLOCK, "big")
    out = b""
    while len(out) < n:
        index = len(out) // _DIGEST + 1
        u = hmac_sha256(password, salt, index.to_bytes(4, "big"))
        total = int.from_bytes(u, "big")
        for _ in range(iterations - 1):
            u = sha256(outer + sha256(inner + u).digest()).digest()
            total ^= int.from_bytes(u, "big")
        out += total.to_bytes(_DIGEST, "big")
    return out[:n]
