"""What MicroPython can't tell exactly: UTF-8, and in how few bits a float fits."""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Union

    Buffer = Union[bytes, bytearray, memoryview]


def is_utf8(data: "Buffer") -> bool:
    """Return whether this is UTF-8 to the letter (RFC 3629 §4). MicroPython itself takes overlong
    forms, surrogates and code points above U+10FFFF: second spellings, or none for the host."""
    i = 0
    n = len(data)
    while i < n:
        lead = data[i]
        i += 1
        if lead < 0x80:
            continue
        more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if not 0xC2 <= lead <= 0xF4 or i + more > n:
            return False
        low = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        high = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        for _ in range(more):
            if not low <= data[i] <= high:
                return False
            low = 0x80
            high = 0xBF
            i += 1
    return True


def narrow(bits: int, e: int, m: int, to_e: int, to_m: int) -> "int | None":
    """Return the bits of a float of e exponent and m mantissa bits in to_e and to_m, or None.

    By integers: a board's own floats could not tell whether it fits.
    """
    sign = bits >> (e + m)
    exponent = (bits >> m) & ((1 << e) - 1)
    mantissa = bits & ((1 << m) - 1)
    if not exponent:
        # A subnormal of the wider format lies far below the narrower one's least; zero does not.
        return None if mantissa else sign << (to_e + to_m)
    exponent += (1 << (to_e - 1)) - (1 << (e - 1))
    if exponent >= (1 << to_e) - 1:
        return None
    drop = m - to_m
    if exponent < 1:
        # It becomes a subnormal: the hidden bit is written out.
        mantissa |= 1 << m
        drop += 1 - exponent
        exponent = 0
    if drop > m or mantissa & ((1 << drop) - 1):
        return None
    return sign << (to_e + to_m) | exponent << to_m | mantissa >> drop


def widen(bits: int) -> int:
    """Return the bits of a 16-bit float as those of a 32-bit one; every finite value has one."""
    sign = bits >> 15 << 31
    exponent = (bits >> 10) & 31
    mantissa = bits & 1023
    if not exponent:
        if not mantissa:
            return sign
        exponent = 1
        while not mantissa & 1024:
            mantissa <<= 1
            exponent -= 1
    return sign | (exponent + 112) << 23 | (mantissa & 1023) << 13
