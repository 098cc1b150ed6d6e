"""Make a private key on P-256, and its public key. There is no signing here: the TLS stack signs.

The multiplication takes the same steps for every key, but the interpreter's numbers take longer
for larger values. So each of two random shares of the key is multiplied, and the points are added:
what a clock beside the board can measure belongs to shares that are used once.
"""

from micropython import const

from ..errors import StoreError
from ._p256_curve import B, N, P
from ._p256_plain import add, affine, comb_digits, decode, double
from ._p256_table import G
from .rand import random_bytes

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from ._p256_plain import Affine

_COLUMNS = const(43)  # of a comb table
# ECPrivateKey (RFC 5915) with a named curve and without the public key, around 32 bytes.
_HEAD = const(b"\x30\x31\x02\x01\x01\x04\x20")
_TAIL = const(b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")


def new_key() -> "tuple[bytes, bytes]":
    """Return (private key d, 32 bytes; public key x ‖ y, 64 bytes).

    Raises StoreError randomness, vault-unwritten when the chip computed a point wrongly.
    """
    table = decode(G)
    while True:
        first, second = _scalar(), _scalar()
        d = (first + second) % N
        # Equal or opposite points do not happen, and the addition is made for two others.
        if d and first != second:
            break
    x, y = _multiply(first, table)
    x, y = affine(add((x, y, 1), _multiply(second, table)))
    if (y * y - (x * x - 3) * x - B) % P:
        raise StoreError("vault-unwritten", "the chip computed a key wrongly")
    return d.to_bytes(32, "big"), x.to_bytes(32, "big") + y.to_bytes(32, "big")


def key_der(d: bytes) -> bytes:
    """Return a private key of 32 bytes as ECPrivateKey in DER, which the TLS stack loads."""
    return _HEAD + d + _TAIL


def _scalar() -> int:
    """Return a random number from 1 to N - 1, every one with the same chance."""
    while True:
        k = int.from_bytes(random_bytes(32), "big")
        if 0 < k < N:
            return k


def _multiply(k: int, table: "list[Affine]") -> "Affine":
    """Return k·G. table: the base point's comb table as points."""
    digits = comb_digits(k, False)
    digit = digits[_COLUMNS - 1]
    point = add((1, 1, 0), table[digit & 31], digit & 128)
    for i in range(_COLUMNS - 2, -1, -1):
        digit = digits[i]
        point = add(double(point), table[digit & 31], digit & 128)
    return affine(point)
