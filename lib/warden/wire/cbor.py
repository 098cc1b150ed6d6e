"""CBOR in its core deterministic encoding (RFC 8949 §4.2.1), and nothing else.

One value has one encoding, so what was signed, hashed or compared is what was read: no two parsers
can be shown two meanings of the same bytes. Hence no indefinite lengths, no tags, no simple values
but false, true and null, no NaN and no infinities.

cbor-malformed       not CBOR, cut short, bytes left over, bad UTF-8, or a type that we do not have
cbor-not-canonical   well-formed, but not the one encoding: a longer head, a longer float, keys out
                     of order or twice
cbor-limit           nested too deeply, or too large for the memory that is left

Types: int from -2^64 to 2^64 - 1, bytes, str, list, dict with int, str or bytes keys, False, True,
None, float. On boards whose floats have 32 bits a 64-bit float is rounded when it is read. cbor_reader.py reads item by item, without copies.
"""

import struct

from micropython import const

from ..errors import PeerError, UsageError, ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Union

    Buffer = Union[bytes, bytearray, memoryview]

# Major types, and what stands for them in the initial byte.
_UINT = const(0)
_NINT = const(1)
_BYTES = const(2)
_TEXT = const(3)
_ARRAY = const(4)
_MAP = const(5)
_OTHER = const(7)

# Arguments of major type 7.
_FALSE = const(20)
_TRUE = const(21)
_NULL = const(22)

# A board's C stack holds this many levels of our recursion with room to spare.
DEEPEST = 16


_CONTAINERS = const(128)


class Cursor:
    """A place in a buffer. `at` is the position of the next item; `bits` those of the last float; `left` how many lists and maps
    item() may still make."""

    def __init__(self, buf: "Buffer") -> None:
        self.view = memoryview(buf)
        self.at = 0
        self.bits = 0
        self.left = _CONTAINERS

    def take(self, n: int) -> memoryview:
        """A view of the next n bytes as they are."""
        at = self.at
        # Compared with what is left before anything is made: a length of 2^64 costs nothing.
        if n > len(self.view) - at:
            raise PeerError("cbor-malformed")
        self.at = at + n
        return self.view[at : at + n]

    def head(self) -> "tuple[int, int]":
        """The next head: (major type, argument). For strings and containers the argument is
        checked against the bytes that are left, so a caller may allocate by it. For major type 7
        it is 20 (false), 21 (true), 22 (null), or 25 to 27 for a float whose bits are in `bits`."""
        initial = self.take(1)[0]
        major = initial >> 5
        info = initial & 31
        if info == 31 and _BYTES <= major <= _MAP:
            raise PeerError("cbor-not-canonical")  # an indefinite length
        if info > 27 or major == 6:
            raise PeerError("cbor-malformed")
        value = info
        if info > 23:
            value = int.from_bytes(self.take(1 << (info - 24)), "big")
            if major == _OTHER:
                self._check_float(info, value)
                return major, info
            # The least value that may stand in an argument of this size: one that the next smaller can't hold.
            if value < (24 if info == 24 else 1 << (4 << (info - 24))):
                raise PeerError("cbor-not-canonical")
        if major == _OTHER:
            if not _FALSE <= info <= _NULL:
                raise PeerError("cbor-malformed")
        elif major >= _BYTES:
            # An element takes a byte at least, a map's pair two.
            if (value << 1 if major == _MAP else value) > len(self.view) - self.at:
                raise PeerError("cbor-malformed")
        return major, value

    def _check_float(self, info: int, bits: int) -> None:
        if info == 24:
            raise PeerError("cbor-malformed")  # a simple value
        e = (5, 8, 11)[info - 25]
        m = (10, 23, 52)[info - 25]
        if (bits >> m) & ((1 << e) - 1) == (1 << e) - 1:
            raise PeerError("cbor-malformed")  # NaN or infinity
        if (
            info > 25
            and narrow(bits, e, m, 5 if info == 26 else 8, 10 if info == 26 else 23) is not None
        ):
            raise PeerError("cbor-not-canonical")
        self.bits = bits

    def item(self, max_depth: int) -> object:
        """The next item as a Python object; strings are copies."""
        ensure(0 <= max_depth <= DEEPEST, "bad-argument", "max_depth is at most 16")
        try:
            return _item(self, max_depth)
        except (MemoryError, RuntimeError):
            # RuntimeError is the end of the stack on MicroPython. Both say that the sender asked
            # for more than we have.
            raise PeerError("cbor-limit")

    def end(self) -> None:
        """Refuse bytes that are left over."""
        if self.at != len(self.view):
            raise PeerError("cbor-malformed")


def decode(buf: "Buffer", max_depth: int = 8) -> object:
    """The value of exactly one data item. max_depth: how many containers may be nested, at most
    16."""
    cursor = Cursor(buf)
    value = cursor.item(max_depth)
    cursor.end()
    return value


def encode(value: object, depth: int = DEEPEST) -> bytes:
    """The one encoding of value, nested `depth` levels at most. Raises UsageError("bad-argument") for what has none."""
    out = bytearray()
    _write(out, value, depth)
    return bytes(out)


def head(major: int, value: int) -> bytes:
    """The shortest head: major type and argument."""
    if value < 24:
        return bytes((major << 5 | value,))
    if value < 256:
        return bytes((major << 5 | 24, value))
    size = 1 if value < 1 << 16 else 2 if value < 1 << 32 else 3
    return bytes((major << 5 | 24 + size,)) + value.to_bytes(1 << size, "big")


def key_order(previous: "bytes | None", key: "Buffer") -> bytes:
    """Refuse an encoded key that does not stand above the one before it; returns a copy of the key
    for the next call."""
    copy = bytes(key)
    if previous is not None and not previous < copy:
        raise PeerError("cbor-not-canonical")
    return copy


def _item(cursor: Cursor, depth: int) -> object:
    major, value = cursor.head()
    if major == _UINT:
        return value
    if major == _NINT:
        return -1 - value
    if major == _BYTES:
        return bytes(cursor.take(value))
    if major == _TEXT:
        return text(cursor.take(value))
    if major == _OTHER:
        return other(cursor, value)
    # An empty list is one byte on the wire and 64 in memory: their number is bounded as well as their depth.
    cursor.left -= 1
    if not depth or cursor.left < 0:
        raise PeerError("cbor-limit")
    if major == _ARRAY:
        return [_item(cursor, depth - 1) for _ in range(value)]
    result = {}
    previous = None
    for _ in range(value):
        start = cursor.at
        key = key_of(cursor, _item)
        previous = key_order(previous, cursor.view[start : cursor.at])
        result[key] = _item(cursor, depth - 1)
    return result


def key_of(cursor: Cursor, read: "Callable[[Cursor, int], object]") -> object:
    """A map's key, by read(). Keys of other types could not be keys of a dict, or would fall together there, as 1 and 1.0 do."""
    if cursor.at < len(cursor.view) and cursor.view[cursor.at] >> 5 > _TEXT:
        raise PeerError("cbor-malformed")
    return read(cursor, 0)


def other(cursor: Cursor, value: int) -> object:
    """The object of major type 7 whose head was just read."""
    if value <= _NULL:
        return (False, True, None)[value - _FALSE]
    bits = cursor.bits
    if value == 27:
        number = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
        # A board with 32-bit floats makes an infinity of what it can't hold.
        if number - number != 0:
            raise PeerError("cbor-limit")
        return number
    if value == 25:
        bits = widen(bits)
    return struct.unpack(">f", bits.to_bytes(4, "big"))[0]


def text(view: memoryview) -> str:
    """The text of these bytes, UTF-8 to the letter."""
    try:
        string = str(view, "utf-8")
    except UnicodeError:
        string = ""
    # As many characters as bytes: plain ASCII, no need to look closer.
    if len(string) != len(view) and not (string and is_utf8(view)):
        raise PeerError("cbor-malformed")
    return string


def _write(out: bytearray, value: "Any", depth: int) -> None:
    # By `type`, the frequent ones first, without a call or an object that can be spared: this is done for every event, and an
    # allocation of more than one block searches the heap from its beginning.
    kind = type(value)
    if kind is str:
        try:
            data = value.encode()
        except UnicodeError:
            raise UsageError("bad-argument", "a lone surrogate in a text")
        n = len(data)
        # As many characters as bytes: plain ASCII, no need to look closer.
        if n != len(value) and not is_utf8(data):
            raise UsageError("bad-argument", "a text that is not UTF-8")
        if n < 24:
            out.append(0x60 | n)
        else:
            out.extend(head(_TEXT, n))
        out.extend(data)
    elif kind is int:
        if 0 <= value < 24:
            out.append(value)
            return
        ensure(-(1 << 64) <= value < 1 << 64, "bad-argument", "an integer of more than 64 bits")
        out.extend(head(_UINT, value) if value >= 0 else head(_NINT, -1 - value))
    elif value is None:
        out.append(0xF6)
    elif kind is dict or kind is tuple or kind is list:
        if not depth:
            raise UsageError("bad-argument", "nested too deeply")
        n = len(value)
        major = _MAP if kind is dict else _ARRAY
        if n < 24:
            out.append(major << 5 | n)
        else:
            out.extend(head(major, n))
        if kind is dict:
            _write_pairs(out, value, depth - 1)
        else:
            for element in value:
                _write(out, element, depth - 1)
    elif kind is bytes or kind is bytearray or kind is memoryview:
        out.extend(head(_BYTES, len(value)))
        out.extend(value)
    elif kind is float:
        out.extend(_encoded_float(value))
    elif kind is bool:
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, dict):  # an ordered one
        _write(out, dict(value), depth)
    elif isinstance(value, tuple):  # a named one
        _write(out, list(value), depth)
    else:
        ensure(False, "bad-argument", "CBOR has no form for this type here")


def _write_pairs(out: bytearray, value: "dict", depth: int) -> None:
    pairs = []
    for key in value:
        kind = type(key)
        if kind is not str and kind is not int and kind is not bytes:
            raise UsageError("bad-argument", "a key is an integer or a string")
        if len(value) == 1:  # nothing to sort: most events have one value
            _write(out, key, 0)
            _write(out, value[key], depth)
            return
        name = bytearray()
        _write(name, key, 0)
        pairs.append((bytes(name), key))
    pairs.sort()  # by the encoded keys, of which no two are equal
    for encoded, key in pairs:
        out.extend(encoded)
        _write(out, value[key], depth)


def _encoded_float(value: float) -> bytes:
    ensure(value - value == 0, "bad-argument", "NaN or infinity")
    bits = int.from_bytes(struct.pack(">d", value), "big")
    single = narrow(bits, 11, 52, 8, 23)
    if single is None:
        return b"\xfb" + bits.to_bytes(8, "big")
    half = narrow(single, 8, 23, 5, 10)
    if half is None:
        return b"\xfa" + single.to_bytes(4, "big")
    return b"\xf9" + half.to_bytes(2, "big")


# -- what MicroPython can't tell exactly: whether bytes are UTF-8, and in how few bits a float fits ----


def is_utf8(data: "Buffer") -> bool:
    """RFC 3629 §4 to the letter. MicroPython's own check lets overlong forms, surrogates and code
    points above U+10FFFF through, and each of these is a second spelling, or one that the host
    can't read."""
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
    """The bits of the same finite number with to_e exponent and to_m mantissa bits instead of e
    and m, or None when it has no such form. Integers only: a board's own floats could not tell."""
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
    """The bits of a 16-bit float as those of a 32-bit one; every finite value has one."""
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
