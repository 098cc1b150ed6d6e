"""CBOR in its core deterministic encoding (RFC 8949 §4.2.1), and nothing else.

One value has one encoding, so what was signed, hashed or compared is what was read: no two parsers
can be shown two meanings of the same bytes. Hence no indefinite lengths, no tags, no simple values
but false, true and null, no NaN and no infinities.

What is refused, and how: cbor-malformed       not CBOR, cut short, bytes left over, bad UTF-8, or
a type that we do not have cbor-not-canonical   well-formed, but not the one encoding: a longer
head, a longer float, keys out of order or twice cbor-limit           nested too deeply, or too
large for the memory that is left

Types: int from -2^64 to 2^64 - 1, bytes, str, list, dict with int, str or bytes keys, False, True,
None, float. On boards whose floats have 32 bits a 64-bit float is rounded when it is read.
"""

import struct

from micropython import const

from ..errors import PeerError, UsageError, ensure
from ._exact import is_utf8, narrow, widen

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Union

    Buffer = Union[bytes, bytearray, memoryview]

UINT = 0
NINT = 1
BYTES = 2
TEXT = 3
ARRAY = 4
MAP = 5
OTHER = 7

# Values of head() for major type 7. The floats' bits stand in Reader.bits.
FALSE = 20
TRUE = 21
NULL = 22

# A board's C stack holds this many levels of our recursion with room to spare.
_DEEPEST = 16

# The least value that may stand in an argument of 1, 2, 4 and 8 bytes.
_LEAST = (24, 1 << 8, 1 << 16, 1 << 32)


class Reader:
    """Reads one data item after the other from a buffer; byte strings come as views into it,
    nothing is copied.

    Each typed method raises PeerError("cbor-malformed") when another type comes. `at` is the
    position of the next item.
    """

    def __init__(self, buf: "Buffer") -> None:
        self.view = memoryview(buf)
        self.at = 0
        self.bits = 0

    def take(self, n: int) -> memoryview:
        """A view of the next n bytes as they are."""
        at = self.at
        # Compared with what is left before anything is made: a length of 2^64 costs nothing.
        if n > len(self.view) - at:
            raise PeerError("cbor-malformed", "cut short")
        self.at = at + n
        return self.view[at : at + n]

    def head(self) -> "tuple[int, int]":
        """The next head: (major type, argument). For strings and containers the argument is
        checked against the bytes that are left, so a caller may allocate by it. For major type 7
        it is FALSE, TRUE, NULL, or 25 to 27 for a float whose bits are in `bits`."""
        if self.at >= len(self.view):
            raise PeerError("cbor-malformed", "cut short")
        initial = self.view[self.at]
        self.at += 1
        major = initial >> 5
        info = initial & 31
        if info == 31 and BYTES <= major <= MAP:
            raise PeerError("cbor-not-canonical", "an indefinite length")
        if info > 27 or major == 6:
            raise PeerError("cbor-malformed", "not a type that is used here")
        value = info
        if info > 23:
            value = int.from_bytes(self.take(1 << (info - 24)), "big")
            if major == OTHER:
                return self._float(info, value)
            if value < _LEAST[info - 24]:
                raise PeerError("cbor-not-canonical", "a head longer than it must be")
        if major == OTHER:
            if not FALSE <= info <= NULL:
                raise PeerError("cbor-malformed", "a simple value that is not used here")
        elif major >= BYTES:
            # An element takes a byte at least, a map's pair two.
            if (value << 1 if major == MAP else value) > len(self.view) - self.at:
                raise PeerError("cbor-malformed", "more is announced than there is")
        return major, value

    def _float(self, info: int, bits: int) -> "tuple[int, int]":
        if info == 24:
            raise PeerError("cbor-malformed", "a simple value that is not used here")
        e = (5, 8, 11)[info - 25]
        m = (10, 23, 52)[info - 25]
        if (bits >> m) & ((1 << e) - 1) == (1 << e) - 1:
            raise PeerError("cbor-malformed", "NaN or infinity")
        if info == 26 and narrow(bits, 8, 23, 5, 10) is not None:
            raise PeerError("cbor-not-canonical", "a float longer than it must be")
        if info == 27 and narrow(bits, 11, 52, 8, 23) is not None:
            raise PeerError("cbor-not-canonical", "a float longer than it must be")
        self.bits = bits
        return OTHER, info

    def _want(self, wanted: int) -> int:
        major, value = self.head()
        if major != wanted:
            raise PeerError("cbor-malformed", "another type was wanted here")
        return value

    def uint(self) -> int:
        return self._want(UINT)

    def integer(self) -> int:
        major, value = self.head()
        if major > NINT:
            raise PeerError("cbor-malformed", "an integer was wanted here")
        return -1 - value if major else value

    def byte_string(self) -> memoryview:
        return self.take(self._want(BYTES))

    def text(self) -> str:
        return _text(self.take(self._want(TEXT)))

    def array(self) -> int:
        """The number of elements that follow."""
        return self._want(ARRAY)

    def mapping(self) -> int:
        """The number of pairs that follow. The caller reads them, and checks with key_order() that
        they ascend."""
        return self._want(MAP)

    def boolean(self) -> bool:
        value = self._want(OTHER)
        if value not in (FALSE, TRUE):
            raise PeerError("cbor-malformed", "true or false was wanted here")
        return value == TRUE

    def null(self) -> None:
        if self._want(OTHER) != NULL:
            raise PeerError("cbor-malformed", "null was wanted here")

    def peek(self) -> int:
        """The major type of the next item, without reading it; -1 at the end."""
        return self.view[self.at] >> 5 if self.at < len(self.view) else -1

    def is_null(self) -> bool:
        """Whether the next item is null, without reading it."""
        return self.at < len(self.view) and self.view[self.at] == 0xF6

    def item(self, max_depth: int = 8) -> object:
        """The next item as a Python object; strings are copies."""
        ensure(0 <= max_depth <= _DEEPEST, "bad-argument", "max_depth is at most 16")
        try:
            return _item(self, max_depth)
        except (MemoryError, RuntimeError):
            # RuntimeError is the end of the stack on MicroPython. Both say that the sender asked
            # for more than we have.
            raise PeerError("cbor-limit", "too large or too deep for this device")

    def skip(self, max_depth: int = 8) -> memoryview:
        """Check the next item as strictly as item() does, and return a view of its bytes."""
        ensure(0 <= max_depth <= _DEEPEST, "bad-argument", "max_depth is at most 16")
        start = self.at
        try:
            _skip(self, max_depth)
        except (MemoryError, RuntimeError):
            raise PeerError("cbor-limit", "too large or too deep for this device")
        return self.view[start : self.at]

    def end(self) -> None:
        """Refuse bytes that are left over."""
        if self.at != len(self.view):
            raise PeerError("cbor-malformed", "bytes are left over")


def decode(buf: "Buffer", max_depth: int = 8) -> object:
    """The value of exactly one data item. max_depth: how many containers may be nested, at most
    16."""
    reader = Reader(buf)
    value = reader.item(max_depth)
    reader.end()
    return value


def encode(obj: object) -> bytes:
    """The one encoding of obj. Raises UsageError("bad-argument") for what has none."""
    out = bytearray()
    _write(out, obj, _DEEPEST)
    return bytes(out)


def head(major: int, value: int) -> bytes:
    """The shortest head: major type and argument."""
    if value < 24:
        return bytes((major << 5 | value,))
    size = 0 if value < 1 << 8 else 1 if value < 1 << 16 else 2 if value < 1 << 32 else 3
    return bytes((major << 5 | 24 + size,)) + value.to_bytes(1 << size, "big")


def key_order(previous: "bytes | None", key: "Buffer") -> bytes:
    """Refuse an encoded key that does not stand above the one before it; returns a copy of the key
    for the next call."""
    copy = bytes(key)
    if previous is not None and not previous < copy:
        raise PeerError("cbor-not-canonical", "keys out of order, or one twice")
    return copy


def _item(reader: Reader, depth: int) -> object:
    major, value = reader.head()
    if major == UINT:
        return value
    if major == NINT:
        return -1 - value
    if major == BYTES:
        return bytes(reader.take(value))
    if major == TEXT:
        return _text(reader.take(value))
    if major == OTHER:
        return _other(reader, value)
    if not depth:
        raise PeerError("cbor-limit", "nested too deeply")
    if major == ARRAY:
        return [_item(reader, depth - 1) for _ in range(value)]
    result = {}
    previous = None
    for _ in range(value):
        start = reader.at
        # Keys of other types could not be keys of a dict, or would fall together there, as 1 and
        # 1.0 do.
        if reader.peek() > TEXT:
            raise PeerError("cbor-malformed", "a key that is no integer and no string")
        key = _item(reader, 0)
        previous = key_order(previous, reader.view[start : reader.at])
        result[key] = _item(reader, depth - 1)
    return result


def _skip(reader: Reader, depth: int) -> None:
    major, value = reader.head()
    if major == BYTES:
        reader.take(value)
    elif major == TEXT:
        _text(reader.take(value))
    elif major == OTHER:
        _other(reader, value)
    elif major >= ARRAY:
        if not depth:
            raise PeerError("cbor-limit", "nested too deeply")
        previous = None
        for _ in range(value):
            if major == MAP:
                start = reader.at
                if reader.peek() > TEXT:
                    raise PeerError("cbor-malformed", "a key that is no integer and no string")
                _skip(reader, 0)
                previous = key_order(previous, reader.view[start : reader.at])
            _skip(reader, depth - 1)


def _other(reader: Reader, value: int) -> object:
    if value <= NULL:
        return (False, True, None)[value - FALSE]
    bits = reader.bits
    if value == 27:
        number = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
        # A board with 32-bit floats makes an infinity of what it can't hold.
        if number - number != 0:
            raise PeerError("cbor-limit", "a float too large for this device")
        return number
    if value == 25:
        bits = widen(bits)
    return struct.unpack(">f", bits.to_bytes(4, "big"))[0]


def _text(view: memoryview) -> str:
    try:
        text = str(view, "utf-8")
    except UnicodeError:
        raise PeerError("cbor-malformed", "not UTF-8")
    # As many characters as bytes: plain ASCII, no need to look closer.
    if len(text) != len(view) and not is_utf8(view):
        raise PeerError("cbor-malformed", "not UTF-8")
    return text


def _write(out: bytearray, obj: object, depth: int) -> None:
    # bool first: on CPython it is an int, on MicroPython it is not.
    if obj is None:
        out.append(0xF6)
    elif isinstance(obj, bool):
        out.append(0xF5 if obj else 0xF4)
    elif isinstance(obj, int):
        ensure(-(1 << 64) <= obj < 1 << 64, "bad-argument", "an integer of more than 64 bits")
        out.extend(head(UINT, obj) if obj >= 0 else head(NINT, -1 - obj))
    elif isinstance(obj, str):
        out.extend(_encoded_text(obj))
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        out.extend(head(BYTES, len(obj)))
        out.extend(obj)
    elif isinstance(obj, float):
        out.extend(_encoded_float(obj))
    elif isinstance(obj, (list, tuple, dict)):
        ensure(depth > 0, "bad-argument", "nested too deeply")
        if isinstance(obj, dict):
            _write_map(out, obj, depth)
        else:
            out.extend(head(ARRAY, len(obj)))
            for element in obj:
                _write(out, element, depth - 1)
    else:
        raise UsageError("bad-argument", "CBOR has no form for this type here")


def _write_map(out: bytearray, obj: "dict", depth: int) -> None:
    pairs = []
    for key in obj:
        usable = isinstance(key, (int, str, bytes)) and not isinstance(key, bool)
        ensure(usable, "bad-argument", "a key is an integer or a string")
        encoded = bytearray()
        _write(encoded, key, 0)
        pairs.append((bytes(encoded), key))
    pairs.sort(key=lambda pair: pair[0])
    out.extend(head(MAP, len(pairs)))
    for encoded, key in pairs:
        out.extend(encoded)
        _write(out, obj[key], depth - 1)


def _encoded_text(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeError:
        raise UsageError("bad-argument", "a lone surrogate in a text")
    if len(data) != len(text):
        ensure(is_utf8(data), "bad-argument", "a text that is not UTF-8")
    return head(TEXT, len(data)) + data


def _encoded_float(number: float) -> bytes:
    ensure(number - number == 0, "bad-argument", "NaN or infinity")
    bits = int.from_bytes(struct.pack(">d", number), "big")
    single = narrow(bits, 11, 52, 8, 23)
    if single is None:
        return b"\xfb" + bits.to_bytes(8, "big")
    half = narrow(single, 8, 23, 5, 10)
    if half is None:
        return b"\xfa" + single.to_bytes(4, "big")
    return b"\xf9" + half.to_bytes(2, "big")
