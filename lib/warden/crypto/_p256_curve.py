"""P-256's numbers (FIPS 186-5, SP 800-186), and what both of its implementations need."""

from micropython import const

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

# Tables hold numbers times 2^260 modulo P, in 20 limbs of 13 bits, 16-bit little-endian words: see
# tools/generate_p256.py.
R = (1 << 260) % P
ONE_INVERSE = 0xFFFFFFFE00000003FFFFFFFD0000000200000001FFFFFFFE000000030000000

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Union

    Table = Union[bytes, bytearray, memoryview]


def inverse(a: int, n: int) -> int:
    """Return 1/a modulo the prime n, for a no multiple of it. MicroPython's pow(a, -1, n) is 0."""
    u = a
    v = n
    x = 1
    y = 0
    while u:
        q, rest = divmod(v, u)
        v = u
        u = rest
        y, x = x, y - q * x
    return y % n


def entry(table: "Table", index: int) -> "tuple[int, int]":
    """Return entry `index` of a table: (x·2^260, 2y·2^260) modulo P."""
    numbers = []
    for at in (index * 80, index * 80 + 40):
        value = 0
        for i in range(at + 38, at - 1, -2):
            value = value << 13 | table[i] | table[i + 1] << 8
        numbers.append(value)
    return numbers[0], numbers[1]
