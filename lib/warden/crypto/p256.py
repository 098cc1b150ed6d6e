"""ECDSA verification on P-256 with SHA-256 (FIPS 186-5 §6.4.2, RFC 6979's curve data in SP
800-186). There is no signing here.

Two implementations of one verdict: `_p256_vm`, field arithmetic for the native emitter, and
`_p256_plain`, big integers. Which one runs is chosen once, at import. All inputs are public, so
nothing here is constant in time.

Nothing raises on hostile bytes: whatever is not a valid signature of this digest by this key is
False.
"""

from micropython import const

from ..errors import StoreError
from ._p256_curve import B, N, P, inverse

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Callable, Union

    Buffer = Union[bytes, bytearray, memoryview]

_fast: "ModuleType"
try:
    from . import _p256_vm as _fast
except (AttributeError, ImportError, SyntaxError, ValueError):
    # No native emitter: CPython, or a port without it (SyntaxError from source, ValueError from a
    # .mpy of another architecture).
    from . import _p256_plain as _fast

_ES256 = const(-7)
_ESP256 = const(-9)


class PublicKey:
    """A verification key for wire.cose.

    key: x ‖ y, 64 bytes, or with the 0x04 of an uncompressed point before them.

    load_table: None, or a function that returns this key's comb table, or None, for one
    verification.
    The caller answers for the table: another key's would accept that key's signatures.
    slow: whether the last signature was found valid without a table.
    """

    algorithms = (_ES256, _ESP256)

    def __init__(self, key: "Buffer") -> None:
        point = _point(key)
        self.valid = point is not None
        self.encoded = bytes(key)[-64:]
        self.load_table: "Callable[[], Buffer | None] | None" = None
        self.slow = False
        self._x, self._y = point or (0, 0)

    def make_table(self) -> bytearray:
        """Return the comb table, 2,560 bytes, checked against the key.

        Raises StoreError vault-unwritten when the chip computed it wrongly.
        """
        from . import _p256_plain

        table = _p256_plain.make_table(self._x, self._y)
        if not _fast.is_table_of(self._x, self._y, table):
            raise StoreError("vault-unwritten", "the chip computed a table wrongly")
        return table

    def verify(self, digest: "Buffer", signature: "Buffer") -> bool:
        """Return whether the signature is one of this digest. False for every invalid input.

        digest: 32 bytes. signature: r ‖ s, 64 bytes.
        """
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
        table = self.load_table() if self.load_table is not None else None
        verdict = _fast.matches(u1, u2, self._x, self._y, table, candidates)
        if verdict is None:
            from . import _p256_plain

            verdict = _p256_plain.matches(u1, u2, self._x, self._y, None, candidates)
        self.slow = bool(verdict) and table is None
        return bool(verdict)


def verify(key: "Buffer", digest: "Buffer", signature: "Buffer") -> bool:
    """Return PublicKey(key).verify(digest, signature)."""
    return PublicKey(key).verify(digest, signature)


def _point(key: "Buffer") -> "tuple[int, int] | None":
    """Return the coordinates, or None for what is no point of the curve.

    The curve's order is prime: each point but infinity, which has no such form, is a usable key.
    """
    if len(key) == 65 and key[0] == 4:
        key = key[1:]
    if len(key) != 64:
        return None
    x = int.from_bytes(key[:32], "big")
    y = int.from_bytes(key[32:], "big")
    if x >= P or y >= P or (y * y - (x * x - 3) * x - B) % P:
        return None
    return x, y
