"""UTF-8 and the shortest form of a float, exactly: MicroPython's own functions are too lenient."""

import struct

from micropython import const

from ..errors import UsageError, ensure

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


def encode_text(value: str) -> bytes:
    """Return the text's bytes. UsageError bad-argument where they are not UTF-8."""
    try:
        data = value.encode()
    except UnicodeError:
        raise UsageError("bad-argument", "a lone surrogate in a text")
    # As many characters as bytes: plain ASCII, no need to look closer.
    if len(data) != len(value) and not is_utf8(data):
        raise UsageError("bad-argument", "a text that is not UTF-8")
    return data


def encode_float(value: float) -> bytes:
    """Return the shortest head that holds the number exactly. UsageError bad-argument."""
    ensure(value - value == 0, "bad-argument", "NaN or infinity")
    bits = int.from_bytes(struct.pack(">d", value), "big")
    single = narrow(bits, 11, 52, 8, 23)
    if single is None:
        return b"\xfb" + bits.to_bytes(8, "big")
    half = narrow(single, 8, 23, 5, 10)
    if half is None:
        return b"\xfa" + single.to_bytes(4, "big")
    return b"\xf9" + half.to_bytes(2, "big")
