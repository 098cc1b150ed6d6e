"""P-256 on big integers: without a native emitter, and where the field machine can't decide.

Points are Jacobian, (X, Y, Z) with Z = 0 for infinity; every case is handled.
"""

from micropython import const

from ._p256_curve import ONE_INVERSE, N, P, R, entry, inverse
from ._p256_table import G

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from ._p256_curve import Table

    Affine = tuple[int, int]
    Jacobian = tuple[int, int, int]

_COLUMNS = const(43)
_WINDOW = const(5)
_INFINITY = (1, 1, 0)

# The base point's table as affine points: made when it is first wanted.
_base: "list[Affine]" = []


def double(a: "Jacobian") -> "Jacobian":
    """Return 2a."""
    x, y, z = a
    delta = z * z % P
    gamma = y * y % P
    beta = x * gamma % P
    alpha = 3 * (x - delta) * (x + delta) % P
    x3 = (alpha * alpha - 8 * beta) % P
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % P, 2 * y * z % P


def add(a: "Jacobian", b: "Affine", negative: int = 0) -> "Jacobian":
    """Return a + b, or a - b, for an affine b."""
    x, y, z = a
    bx, by = b
    if negative:
        by = P - by
    if not z:
        return bx, by, 1
    zz = z * z % P
    h = (bx * zz - x) % P
    r = (by * zz * z - y) % P
    if not h:
        return _INFINITY if r else double(a)
    hh = h * h % P
    hhh = h * hh % P
    v = x * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - y * hhh) % P, z * h % P


def decode(table: "Table") -> "list[Affine]":
    """Return the affine points of a comb table."""
    points = []
    half = ONE_INVERSE * ((P + 1) >> 1) % P
    for i in range(len(table) // 80):
        x, y = entry(table, i)
        points.append((x * ONE_INVERSE % P, y * half % P))
    return points


def comb_digits(k: int, negate: bool) -> bytearray:
    """Return the digits of k, or -k, for a comb table: 43 of 5 bits, and 128 where one is
    negative.

    0 <= k < N. An even k is replaced by N - k with the other sign.
    """
    if not k & 1:
        k = N - k
        negate = not negate
    # k as a sum of 258 signed bits: bit i of (k + 2^258 - 1) / 2 tells the sign of 2^i.
    e = ((k >> 1) + (1 << 257)).to_bytes(33, "little")
    digits = bytearray(_COLUMNS)
    for c in range(_COLUMNS):
        v = 0
        for i in range(c + 215, -1, -43):
            v = v << 1 | (e[i >> 3] >> (i & 7)) & 1
        digits[c] = (v & 31 if v & 32 else v ^ 159) ^ (128 if negate else 0)
    return digits


def naf(k: int) -> bytearray:
    """Return the width-5 NAF of k below 2^256: 258 digits, odd from -15 to 15 or 0, modulo 256."""
    data = k.to_bytes(34, "little")
    digits = bytearray(258)
    carry = 0
    i = 0
    while i < 258:
        j = i >> 3
        v = ((data[j] | data[j + 1] << 8) >> (i & 7)) & 31
        if (v + carry) & 1:
            v += carry
            carry = 1 if v > 16 else 0
            digits[i] = (v - 32) & 255 if carry else v
            i += _WINDOW
        else:
            carry = ((v & 1) + carry) >> 1
            i += 1
    return digits


def _odd_multiples(q: "Affine") -> "list[Affine]":
    """Return Q, 3Q, … 15Q: a chain of additions of 2Q, and one inversion for all."""
    x, y, z = double((q[0], q[1], 1))
    t = inverse(z, P)
    tt = t * t % P
    twice = (x * tt % P, y * tt * t % P)
    chain = [(q[0], q[1], 1)]
    product = [1]
    for _ in range((1 << (_WINDOW - 2)) - 1):
        chain.append(add(chain[-1], twice))
        product.append(product[-1] * chain[-1][2] % P)
    t = inverse(product[-1], P)
    points = []
    for i in range(len(chain) - 1, -1, -1):
        x, y, z = chain[i]
        zi = t * product[i - 1] % P if i else 1
        t = t * z % P
        tt = zi * zi % P
        points.append((x * tt % P, y * tt * zi % P))
    points.reverse()
    return points


def _sum(u1: int, u2: int, x: int, y: int, points: "list[Affine] | None") -> "Jacobian":
    global _base
    if not _base:
        _base = decode(G)
    comb = comb_digits(u1, False)
    acc = _INFINITY
    if points is not None:
        other = comb_digits(u2, False)
        for i in range(_COLUMNS - 1, -1, -1):
            acc = double(acc)
            acc = add(acc, _base[comb[i] & 31], comb[i] & 128)
            acc = add(acc, points[other[i] & 31], other[i] & 128)
        return acc
    points = _odd_multiples((x, y))
    digits = naf(u2)
    for i in range(len(digits) - 1, -1, -1):
        if acc[2]:
            acc = double(acc)
        digit = digits[i]
        if digit:
            negative = digit & 128
            acc = add(acc, points[(256 - digit if negative else digit) >> 1], negative)
        if i < _COLUMNS:
            acc = add(acc, _base[comb[i] & 31], comb[i] & 128)
    return acc


def matches(
    u1: int, u2: int, x: int, y: int, table: "Table | None", candidates: "tuple[int, ...]"
) -> bool:
    """Return whether the x coordinate of u1·G + u2·(x, y) is one of the candidates.

    0 <= u1 < N, 0 < u2 < N. table: the comb table of (x, y), or None.
    """
    sum_x, _, z = _sum(u1, u2, x, y, None if table is None else decode(table))
    zz = z * z % P
    if not zz:
        return False
    for candidate in candidates:
        if not (candidate * zz - sum_x) % P:
            return True
    return False


def make_table(x: int, y: int) -> bytearray:
    """Return the comb table of a point: see table() in tools/generate_p256.py."""
    teeth = []
    point = x, y, 1
    for _ in range(6):
        teeth.append(affine(point))
        for _ in range(_COLUMNS):
            point = double(point)
    table = bytearray()
    for index in range(32):
        point = teeth[5][0], teeth[5][1], 1
        for j in range(5):
            point = add(point, teeth[j], not index >> j & 1)
        x, y = affine(point)
        for value in (x * R % P, 2 * y * R % P):
            for _ in range(20):
                table.append(value & 255)
                table.append(value >> 8 & 31)
                value >>= 13
    return table


def affine(point: "Jacobian") -> "Affine":
    """Return the affine form of a point that is not infinity."""
    x, y, z = point
    t = inverse(z, P)
    return x * t * t % P, y * t * t % P * t % P


def is_table_of(x: int, y: int, table: "Table") -> bool:
    """Return whether all 32 entries are right.

    Entries whose numbers differ in bit j differ by twice tooth j; the first and the last add up to
    twice the last tooth.
    """
    points = decode(table)
    tooth = double((x, y, 1))
    for j in range(6):
        if j:
            for _ in range(_COLUMNS):
                tooth = double(tooth)
        for low in range(1 << j if j < 5 else 1):
            total = add(tooth, points[low], j == 5)
            if not _equal(total, points[low | 1 << j if j < 5 else 31]):
                return False
    return True


def _equal(a: "Jacobian", b: "Affine") -> bool:
    x, y, z = a
    if not z:
        return False
    zz = z * z % P
    return not (b[0] * zz - x) % P and not (b[1] * zz * z - y) % P
