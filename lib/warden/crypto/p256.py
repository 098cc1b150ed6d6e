"""ECDSA verification on P-256 with SHA-256 (FIPS 186-5 §6.4.2, RFC 6979's curve data in SP
800-186). There is no signing here.

Two implementations of one verdict: `_p256_vm`, field arithmetic for the native emitter, and
`_p256_plain`, big integers. Which one runs is chosen once, at import. All inputs are public, so
nothing here is constant in time.

Nothing raises on hostile bytes: whatever is not a valid signature of this digest by this key is
False.
"""

import hashlib

from micropython import const

from ._p256_curve import B, N, P, inverse, is_reduced

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Union

    Buffer = Union[bytes, bytearray, memoryview]

_fast: "ModuleType"
try:
    from . import _p256_vm as _fast
except (AttributeError, ImportError, SyntaxError, ValueError):
    # No native emitter: CPython, or a port without it (SyntaxError from source, ValueError from a
    # .mpy of another architecture).
    from . import _p256_plain as _fast

_TABLE_LEN = const(2560)
_ES256 = const(-7)
_ESP256 = const(-9)


class PublicKey:
    """A verification key for wire.cose. key: x ‖ y, 64 bytes, or with the 0x04 of an uncompressed
    point before them.

    table: the comb table that the host made for a pinned key (2560 bytes), which halves the time
    of each verification. It is checked against the key here, which costs about one verification; a
    table that is wrong is not used, so it can slow us down but never change a verdict. vouched:
    what `voucher` gave after an earlier check, kept where nobody can write it, such as the vault;
    with it the check is one SHA-256.
    """

    algorithms = (_ES256, _ESP256)

    def __init__(
        self, key: "Buffer", table: "Buffer | None" = None, vouched: "Buffer | None" = None
    ) -> None:
        point = _point(key)
        self.valid = point is not None
        self.voucher: "bytes | None" = None
        self._x, self._y = point or (0, 0)
        self._table: "bytes | None" = None
        if point is None or table is None or len(table) != _TABLE_LEN:
            return
        table = bytes(table)
        voucher = hashlib.sha256(bytes(key)[-64:] + table).digest()
        if voucher == vouched or (
            is_reduced(table) and _fast.is_table_of(self._x, self._y, table)
        ):
            self._table = table
            self.voucher = voucher

    def verify(self, digest: "Buffer", signature: "Buffer") -> bool:
        """Whether signature, r ‖ s in 64 bytes, is one of this 32-byte digest. False for every
        invalid input."""
        if not self.valid or len(digest) != 32 or len(signature) != 64:
            return False
        r = int.from_bytes(signature[:32], "big")
        s = int.from_bytes(signature[32:], "big")
        if not (0 < r < N and 0 < s < N):
            return False
        w = inverse(s, N)
        u1 = int.from_bytes(digest, "big") * w % N
        u2 = r * w % N
        # r is the x coordinate modulo N; the coordinate itself may have been N larger.
        candidates = (r, r + N) if r + N < P else (r,)
        verdict = _fast.matches(u1, u2, self._x, self._y, self._table, candidates)
        if verdict is None:
            from . import _p256_plain

            verdict = _p256_plain.matches(u1, u2, self._x, self._y, None, candidates)
        return bool(verdict)


def verify(key: "Buffer", digest: "Buffer", signature: "Buffer") -> bool:
    """PublicKey(key).verify(digest, signature)."""
    return PublicKey(key).verify(digest, signature)


def _point(key: "Buffer") -> "tuple[int, int] | None":
    """The coordinates, or None for what is no point of the curve. The curve's order is prime: each
    of its points but infinity, which has no such form, is a usable key."""
    if len(key) == 65 and key[0] == 4:
        key = key[1:]
    if len(key) != 64:
        return None
    x = int.from_bytes(key[:32], "big")
    y = int.from_bytes(key[32:], "big")
    if x >= P or y >= P or (y * y - (x * x - 3) * x - B) % P:
        return None
    return x, y
