"""RSASSA-PSS verification with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes (RFC 8017
§8.1.2): COSE's PS256. No signing.

The power is MicroPython's own three-argument pow, and the masks are XORed as big integers: what is
left for Python is next to nothing. All inputs are public. Nothing raises on hostile bytes:
whatever is not a valid signature is False.
"""

import hashlib

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Union

    Buffer = Union[bytes, bytearray, memoryview]

_PS256 = const(-37)
_HASH = const(32)


class PublicKey:
    """A verification key for wire.cose.

    modulus: 256, 384 or 512 big-endian bytes whose first bit is set.
    exponent: odd, above 2^16 and below 2^256 (FIPS 186-5 §5.1): a key with exponent 3 is no key
    here.
    """

    algorithms = (_PS256,)

    def __init__(self, modulus: "Buffer", exponent: int = 65537) -> None:
        size = len(modulus)
        n = int.from_bytes(modulus, "big") if size in (256, 384, 512) else 0
        self.valid = bool(
            n & 1 and n >> (8 * size - 1) and exponent & 1 and 65536 < exponent < 1 << 256
        )
        self._n = n
        self._e = exponent
        self._size = size

    def verify(self, digest: "Buffer", signature: "Buffer") -> bool:
        """Return whether the signature, as long as the modulus, is one of this 32-byte digest."""
        size = self._size
        if not self.valid or len(digest) != _HASH or len(signature) != size:
            return False
        s = int.from_bytes(signature, "big")
        # A larger number would be a second signature for the same message.
        if s >= self._n:
            return False
        return _is_encoding(pow(s, self._e, self._n), digest, size, _HASH)


def _is_encoding(em: int, digest: "Buffer", size: int, salt_len: int) -> bool:
    """Return whether em is an encoding of the digest (EMSA-PSS-VERIFY, RFC 8017 §9.1.2).

    EM = maskedDB ‖ H ‖ 0xBC with the first bit clear. COSE's salt has 32 bytes; NIST's vectors
    have others.
    """
    if em & 0xFF != 0xBC or em >> (8 * size - 1):
        return False
    length = size - _HASH - 1
    tail = ((em >> 8) & ((1 << 8 * _HASH) - 1)).to_bytes(_HASH, "big")
    db = (em >> 8 * (_HASH + 1)) ^ int.from_bytes(_mgf1(tail, length), "big")
    db &= (1 << (8 * length - 1)) - 1
    # DB = zeros ‖ 0x01 ‖ salt: the part before the salt is the number 1.
    if db >> 8 * salt_len != 1:
        return False
    h = hashlib.sha256(bytes(8))
    h.update(digest)
    h.update((db & ((1 << 8 * salt_len) - 1)).to_bytes(salt_len, "big"))
    return bool(h.digest() == tail)


def _mgf1(seed: bytes, n: int) -> bytes:
    """Return n bytes of MGF1 (RFC 8017 §B.2.1)."""
    out = bytearray((n + 31) & -32)
    for i in range(0, n, _HASH):
        out[i : i + _HASH] = hashlib.sha256(seed + (i >> 5).to_bytes(4, "big")).digest()
    return bytes(out[:n])


def verify(
    modulus: "Buffer", digest: "Buffer", signature: "Buffer", exponent: int = 65537
) -> bool:
    """Return PublicKey(modulus, exponent).verify(digest, signature)."""
    return PublicKey(modulus, exponent).verify(digest, signature)
