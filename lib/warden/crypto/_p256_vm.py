"""P-256 on the field machine: u1·G + u2·Q with the scalars recoded, tables walked and no garbage
in the inner loop.

Importing it fails where there is no native emitter, and `p256` takes `_p256_plain` instead. The
formulas are incomplete: an addition of equal or opposite points gives Z = 0, which stays 0 to the
end. Then the answer is None, and the caller asks `_p256_plain`, whose formulas are complete. Only
a chosen key can bring that about; honest signatures never do.

One workspace: not re-entrant.
"""

# mypy: ignore-errors

import micropython
from micropython import const

from . import _p256_native as native
from ._p256_curve import ONE_INVERSE, N, P, R, inverse
from ._p256_native import run
from ._p256_table import G

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from ._p256_curve import Table

_COLUMNS = const(43)
_WINDOW = const(5)
_DIGITS = const(258)

_w = bytearray(native.WORK)
_view = memoryview(_w)
_view[: len(native.REGISTERS)] = native.REGISTERS


@micropython.viper
def _load(w: ptr8, table: ptr8, at: int):  # noqa: F821
    """Copy 80 bytes of a table to registers PX and PY.

    A table in flash may lie on any address: a word from an odd one is a hard fault on a
    Cortex-M0+.
    """
    to = ptr32(int(w) + 360)  # noqa: F821
    source = int(table) + at
    if source & 3:
        d = ptr8(to)  # noqa: F821
        s = ptr8(source)  # noqa: F821
        i = 0
        while i < 80:
            d[i] = s[i]
            i += 1
    else:
        p = ptr32(source)  # noqa: F821
        i = 0
        while i < 20:
            to[i] = p[i]
            i += 1


@micropython.viper
def _unpack(w: ptr8, at: int, number: ptr8):  # noqa: F821
    """Write 32 little-endian bytes to the limbs of the register at `at`."""
    d = ptr16(int(w) + at)  # noqa: F821
    bits = 0
    n = 0
    k = 0
    i = 0
    while i < 32:
        bits |= number[i] << n
        n += 8
        i += 1
        if n >= 13:
            d[k] = bits & 8191
            bits >>= 13
            n -= 13
            k += 1
    d[19] = bits


@micropython.viper
def _pack(w: ptr8, at: int, number: ptr8):  # noqa: F821
    """Write the limbs of the register at `at` to 33 little-endian bytes."""
    s = ptr16(int(w) + at)  # noqa: F821
    bits = 0
    n = 0
    k = 0
    i = 0
    while i < 33:
        if n < 8 and k < 20:
            bits |= s[k] << n
            n += 13
            k += 1
        number[i] = bits & 255
        bits >>= 8
        n -= 8
        i += 1


@micropython.viper
def _naf(k: ptr8, out: ptr8):  # noqa: F821
    """Write the width-5 NAF of 34 little-endian bytes: 258 digits, odd or 0, modulo 256."""
    carry = 0
    i = 0
    while i < 258:
        j = i >> 3
        v = ((k[j] | k[j + 1] << 8) >> (i & 7)) & 31
        out[i] = 0
        if (v + carry) & 1:
            v += carry
            carry = 0
            if v > 16:
                v -= 32
                carry = 1
            out[i] = v & 255
            j = i + 5
            i += 1
            while i < j and i < 258:
                out[i] = 0
                i += 1
        else:
            carry = ((v & 1) + carry) >> 1
            i += 1


@micropython.viper
def _comb(e: ptr8, out: ptr8):  # noqa: F821
    """Write signed comb digits: 43 of 5 bits, and 128 where the digit is negative."""
    c = 0
    while c < 43:
        v = 0
        i = c + 215
        while i >= 0:
            v = v << 1 | ((e[i >> 3] >> (i & 7)) & 1)
            i -= 43
        out[c] = v & 31 if v & 32 else (v & 31) ^ 159
        c += 1


def comb_digits(k: int, negate: bool) -> bytearray:
    """Return the digits of k, or -k, for a comb table: see _p256_plain.comb_digits()."""
    if not k & 1:
        k = N - k
        negate = not negate
    digits = bytearray(_COLUMNS)
    # k as a sum of 258 signed bits: bit i of (k + 2^258 - 1) / 2 tells the sign of 2^i.
    _comb(((k >> 1) + (1 << 257)).to_bytes(33, "little"), digits)
    if negate:
        for i in range(_COLUMNS):
            digits[i] ^= 128
    return digits


def _put(register: int, value: int) -> None:
    _unpack(_w, register, value.to_bytes(32, "little"))


def _get(register: int) -> int:
    packed = bytearray(33)
    _pack(_w, register, packed)
    return int.from_bytes(packed, "little")


def _add(table: "bytes | bytearray", index: int, negative: int, started: bool) -> None:
    _load(_w, table, index * 80)
    if started:
        run(_w, 1, _w, native.SUBTRACT if negative else native.ADD)
    else:
        run(_w, 1, _w, native.SET_NEGATIVE if negative else native.SET)


def _odd_multiples(x: int, y: int) -> bytearray:
    """Return Q, 3Q, … 15Q in affine form.

    On the isomorphic curve where 2Q is affine each is one addition; the ratios of their Z lead
    back with a single inversion.
    """
    count = 1 << (_WINDOW - 2)
    _put(native.X, x * R % P)
    _put(native.Y, 2 * y * R % P)
    _view[native.Z : native.Z + 40] = native.ONE
    _view[native.PX : native.PX + 80] = _view[native.X : native.X + 80]
    run(_w, 1, _w, native.DOUBLE)
    # The operand, which is Q, moves to the curve of 2Q = (X, 2Y, 1): scaled by Z² and Z³.
    _view[native.I : native.I + 40] = _view[native.Z : native.Z + 40]
    run(_w, 1, _w, native.SCALE)
    z = bytes(_view[native.Z : native.Z + 40])
    twice = bytes(_view[native.X : native.X + 80])
    _view[native.X : native.X + 80] = _view[native.PX : native.PX + 80]
    _view[native.Z : native.Z + 40] = native.ONE
    _view[native.PX : native.PX + 80] = twice
    table = bytearray(80 * count)
    ratios = bytearray(40 * count)
    for i in range(count):
        if i:
            run(_w, 1, _w, native.ADD)
            ratios[40 * i : 40 * i + 40] = _view[native.E : native.E + 40]
        table[80 * i : 80 * i + 80] = _view[native.X : native.X + 80]
    # I = 1 / (Z of the last · Z of 2Q)
    _view[native.I : native.I + 40] = _view[native.Z : native.Z + 40]
    _view[native.E : native.E + 40] = z
    run(_w, 1, _w, native.STEP)
    _put(native.I, inverse(_get(native.I) * ONE_INVERSE % P, P) * R % P)
    for i in range(count - 1, -1, -1):
        _view[native.PX : native.PX + 80] = table[80 * i : 80 * i + 80]
        run(_w, 1, _w, native.SCALE)
        table[80 * i : 80 * i + 80] = _view[native.PX : native.PX + 80]
        _view[native.E : native.E + 40] = ratios[40 * i : 40 * i + 40]
        run(_w, 1, _w, native.STEP)
    return table


def _with_any_key(u1: int, u2: int, x: int, y: int) -> None:
    table = _odd_multiples(x, y)
    digits = bytearray(_DIGITS)
    _naf(u2.to_bytes(34, "little"), digits)
    comb = comb_digits(u1, False)
    started = False
    doublings = 0
    for i in range(_DIGITS - 1, -1, -1):
        doublings += 1
        digit = digits[i]
        if digit:
            if started:
                run(_w, doublings, _w, native.DOUBLE)
            negative = digit & 128
            _add(table, (256 - digit if negative else digit) >> 1, negative, started)
            started = True
            doublings = 0
        if i < _COLUMNS:
            if started and doublings:
                run(_w, doublings, _w, native.DOUBLE)
            doublings = 0
            _add(G, comb[i] & 31, comb[i] & 128, started)
            started = True


def _with_table(u1: int, u2: int, table: "bytes | bytearray") -> None:
    comb = comb_digits(u1, False)
    other = comb_digits(u2, False)
    for i in range(_COLUMNS - 1, -1, -1):
        if i < _COLUMNS - 1:
            run(_w, 1, _w, native.DOUBLE)
        _add(G, comb[i] & 31, comb[i] & 128, i < _COLUMNS - 1)
        _add(table, other[i] & 31, other[i] & 128, True)


def matches(
    u1: int, u2: int, x: int, y: int, table: "Table | None", candidates: "tuple[int, ...]"
) -> "bool | None":
    """Return whether the x coordinate of u1·G + u2·(x, y) is one of the candidates, or None.

    None: the machine cannot tell. table: the comb table of (x, y), or None.
    """
    if table is None:
        _with_any_key(u1, u2, x, y)
    else:
        _with_table(u1, u2, table)
    run(_w, 1, _w, native.COMPARE)
    zz = _get(native.C) % P
    if not zz:
        return None
    sum_x = _get(native.X)
    for candidate in candidates:
        if not (candidate * zz - sum_x) % P:
            return True
    return False


def is_table_of(x: int, y: int, table: "Table") -> bool:
    """Return whether all 32 entries, each reduced, are right; takes as long as a verification."""
    _put(native.X, x * R % P)
    _put(native.Y, 2 * y * R % P)
    _view[native.Z : native.Z + 40] = native.ONE
    # Entries whose numbers differ in bit j differ by twice tooth j; the first and the last add up
    # to twice the last tooth.
    run(_w, 1, _w, native.DOUBLE)
    for j in range(6):
        if j:
            run(_w, _COLUMNS, _w, native.DOUBLE)
        tooth = bytes(_view[native.X : native.X + 120])
        for low in range(1 << j if j < 5 else 1):
            _view[native.X : native.X + 120] = tooth
            _add(table, low, j == 5, True)
            if not _is_entry(table, low | 1 << j if j < 5 else 31):
                return False
        _view[native.X : native.X + 120] = tooth
    return True


def _is_entry(table: "Table", index: int) -> bool:
    _load(_w, table, index * 80)
    run(_w, 1, _w, native.COMPARE)
    if not _get(native.C) % P:
        return False
    return not (_get(native.A) - _get(native.X)) % P and not (_get(native.B) - _get(native.Y)) % P
