"""CBOR in its core deterministic encoding (RFC 8949 §4.2.1), and nothing else.

One value has one encoding, so what was signed, hashed or compared is what was read. Hence no
indefinite lengths, no tags, no simple values but false, true and null, no NaN and no infinities.

cbor-malformed       not CBOR, cut short, bytes left over, bad UTF-8, or a type that is not read
cbor-not-canonical   a longer head or float than is needed, keys out of order or twice
cbor-limit           nested too deeply, or too large for the memory that is left

Types: int from -2^64 to 2^64 - 1, bytes, str, list, dict with int, str or bytes keys, False, True,
None, float. Boards with 32-bit floats round one of 64 bits. cbor_reader.py reads without copies.
"""

import struct

from micropython import const

from ..errors import PeerError, UsageError, ensure
from .exact import encode_float, encode_text, is_utf8, narrow, widen

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Union

    Buffer = Union[bytes, bytearray, memoryview]

# Major types.
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

DEEPEST = 16  # levels of lists and maps that can be read or written
_CONTAINERS = const(128)
_KEPT = const(16)  # encoded keys
_NAME = const(32)  # bytes of the longest one
_names: "dict[str, bytes]" = {}
_NONE: "list[Any]" = []  # around the outermost container


class Cursor:
    """A place in a buffer. `at`: the offset of the next item; `value`: the argument of the last
    head; `bits`: those of the last float; `left`: how many lists and maps item() may still make.
    """

    value = 0
    bits = 0
    left = _CONTAINERS

    def __init__(self, buf: "Buffer") -> None:
        self.view = memoryview(buf)
        self.at = 0

    def read(self, n: int) -> memoryview:
        """Return a view of the next n bytes."""
        at = self.at
        # Compared with what is left before anything is made: a length of 2^64 costs nothing.
        if n > len(self.view) - at:
            raise PeerError("cbor-malformed")
        self.at = at + n
        return self.view[at : at + n]

    def head(self) -> "tuple[int, int]":
        """Return the next head: (major type, argument).

        The argument of a string or a container is checked against the bytes that are left: a
        caller may allocate by it. For major type 7: 20 (false), 21 (true), 22 (null); 25 to 27, a
        float's in `bits`.
        """
        return self.major(), self.value

    def major(self) -> int:
        """Read the next head, as head(): return its major type, and leave its argument in `value`.

        Without a tuple: an allocation costs a board as much as a call.
        """
        at = self.at
        view = self.view
        if at >= len(view):
            raise PeerError("cbor-malformed")
        major = view[at] >> 5
        value = view[at] & 31
        self.at = at + 1
        if value > 23:
            value = self._argument(major, value)
        elif major > _MAP and (major != _OTHER or not _FALSE <= value <= _NULL):
            raise PeerError("cbor-malformed")
        # An element takes a byte at least, a map's pair two.
        least = value << 1 if major == _MAP else value
        if _BYTES <= major <= _MAP and least > len(view) - self.at:
            raise PeerError("cbor-malformed")
        self.value = value
        return major

    def _argument(self, major: int, info: int) -> int:
        if info == 31 and _BYTES <= major <= _MAP:
            raise PeerError("cbor-not-canonical")  # an indefinite length
        if info > 27 or major == 6:
            raise PeerError("cbor-malformed")
        value = int.from_bytes(self.read(1 << (info - 24)), "big")
        if major == _OTHER:
            self._check_float(info, value)
            return info
        # The least value that may stand in an argument of this size: one that the next smaller
        # can't hold.
        if value < (24 if info == 24 else 1 << (4 << (info - 24))):
            raise PeerError("cbor-not-canonical")
        return value

    def _check_float(self, info: int, bits: int) -> None:
        if info == 24:
            raise PeerError("cbor-malformed")  # a simple value
        e, m = ((5, 10), (8, 23), (11, 52))[info - 25]
        if (bits >> m) & ((1 << e) - 1) == (1 << e) - 1:
            raise PeerError("cbor-malformed")  # NaN or infinity
        to = (5, 10) if info == 26 else (8, 23)
        if info > 25 and narrow(bits, e, m, *to) is not None:
            raise PeerError("cbor-not-canonical")
        self.bits = bits

    def item(self, max_depth: int = 8, keep: bool = True) -> object:
        """Return the next item as a Python object, its strings as copies.

        max_depth: how many lists and maps may be nested, at most 16.
        keep: False checks the item as strictly, makes nothing and returns None.

        Raises PeerError: cbor-malformed, cbor-not-canonical, cbor-limit.
        """
        return _walk(self, max_depth, keep)

    def end(self) -> None:
        """Refuse bytes that are left over."""
        if self.at != len(self.view):
            raise PeerError("cbor-malformed")


def decode(buf: "Buffer", max_depth: int = 8) -> object:
    """Return the value of exactly one data item; see Cursor.item()."""
    cursor = Cursor(buf)
    value = _walk(cursor, max_depth, True)
    cursor.end()
    return value


def encode(value: object, depth: int = DEEPEST) -> bytes:
    """Return the one encoding of value. Raises UsageError bad-argument.

    depth: how many lists and maps may be nested.
    """
    out = bytearray()
    write(out, value, depth)
    return bytes(out)


def write(out: bytearray, value: "Any", depth: int = DEEPEST) -> None:
    """Append the one encoding of value to out; see encode()."""
    if depth and type(value) is dict and len(value) == 1:
        value = _write_only_key(out, value)
        depth -= 1
    if _write(out, value):
        return
    # In one loop, as _walk(). `outer`, of each container around the one that is written: items,
    # index of the next, whether it is a map. By an index: an iterator would be an object.
    outer: "list[Any]" = _NONE
    while True:
        if len(outer) >= 3 * depth:
            raise UsageError("bad-argument", "nested too deeply")
        pairs = isinstance(value, dict)
        items: "Any" = _pairs(value) if pairs else value
        at = 0
        while True:
            if at == len(items):
                if not outer:
                    return
                pairs, at, items = outer.pop(), outer.pop(), outer.pop()
                continue
            value = items[at]
            at += 1
            if pairs:
                out.extend(value[0])
                value = value[1]
            if not _write(out, value):
                break
        outer = outer or []
        outer.append(items)
        outer.append(at)
        outer.append(pairs)


def head(major: int, value: int) -> bytes:
    """Return the shortest head of this major type and argument."""
    if value < 24:
        return bytes((major << 5 | value,))
    if value < 256:
        return bytes((major << 5 | 24, value))
    size = 1 if value < 1 << 16 else 2 if value < 1 << 32 else 3
    return bytes((major << 5 | 24 + size,)) + value.to_bytes(1 << size, "big")


def key_order(previous: "bytes | None", key: "Buffer") -> bytes:
    """Return a copy of an encoded key, for the next call; refuse one not above the one before."""
    copy = bytes(key)
    if previous is not None and not previous < copy:
        raise PeerError("cbor-not-canonical")
    return copy


def _walk(cursor: Cursor, max_depth: int, keep: bool) -> "Any":
    """Do the work of Cursor.item(), in one loop: recursion would overflow a C stack of 8 KB."""
    ensure(0 <= max_depth <= DEEPEST, "bad-argument", "max_depth is at most 16")
    # The container of the next item, how many items it lacks, the encoded key before in a map
    # (None in a list); and the same of each container around it, the outermost first.
    root: "Any" = None
    into: "Any" = None
    left = 1
    previous: "Buffer | None" = None
    depth = 0
    outer: "list[Any]" = _NONE
    key: "Any" = None
    try:
        while True:
            if previous is not None:
                at = cursor.at
                # Other keys could not be a dict's, or would fall together there, as 1 and 1.0 do.
                if at < len(cursor.view) and cursor.view[at] >> 5 > _TEXT:
                    raise PeerError("cbor-malformed")
                major = cursor.major()
                key = _scalar(cursor, major, cursor.value, keep)
                if len(previous):  # copies only where there are two keys: a command often has one
                    previous = bytes(previous)
                    if not previous < bytes(cursor.view[at : cursor.at]):
                        raise PeerError("cbor-not-canonical")
                previous = cursor.view[at : cursor.at]
            major = cursor.major()
            value = cursor.value
            left -= 1
            container = major == _ARRAY or major == _MAP
            if container:
                # An empty list is one byte on the wire and 64 in memory: their number is bounded.
                cursor.left -= keep
                if depth >= max_depth or cursor.left < 0:
                    raise PeerError("cbor-limit")
                found: "Any" = [] if major == _ARRAY else {}
            else:
                found = _scalar(cursor, major, value, keep)
            if not depth:
                root = found
            elif keep:
                if previous is None:
                    into.append(found)
                else:
                    into[key] = found
            if container and value:
                if depth:
                    outer = outer or []
                    outer.append(into)
                    outer.append(left)
                    outer.append(previous)
                depth += 1
                into, left, previous = found, value, None if major == _ARRAY else b""
            while not left:
                depth -= 1
                if depth <= 0:
                    return root if keep else None
                previous, left, into = outer.pop(), outer.pop(), outer.pop()
    except (MemoryError, RuntimeError):  # RuntimeError: the end of the C stack
        raise PeerError("cbor-limit")


def _scalar(cursor: Cursor, major: int, value: int, keep: bool) -> object:
    """Return the item of a head that is no list and no map; no copy of bytes without `keep`."""
    if major == _UINT:
        return value
    if major == _NINT:
        return -1 - value
    if major == _BYTES:
        view = cursor.read(value)
        return bytes(view) if keep else None
    if major == _TEXT:
        return text(cursor.read(value))
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
    """Return the text of these bytes. PeerError cbor-malformed unless they are UTF-8."""
    try:
        string = str(view, "utf-8")
    except UnicodeError:
        string = ""
    # As many characters as bytes: plain ASCII, no need to look closer.
    if len(string) != len(view) and not (string and is_utf8(view)):
        raise PeerError("cbor-malformed")
    return string


def _write(out: bytearray, value: "Any") -> bool:
    """Append a value that is no list and no map, or the head of one: then return False."""
    # By `type`, the frequent ones first: this is done for every event.
    kind = type(value)
    if kind is str:
        data = encode_text(value)
        _write_head(out, _TEXT, len(data))
        out.extend(data)
    elif kind is bytes or kind is bytearray or kind is memoryview:
        _write_head(out, _BYTES, len(value))
        end = len(out) + len(value)
        out.extend(value)
        if len(out) != end:  # what is too much would be read as further items of the message
            raise UsageError("bad-argument", "a view of items wider than a byte")
    elif kind is int:
        if 0 <= value < 24:
            out.append(value)
        else:
            ensure(-(1 << 64) <= value < 1 << 64, "bad-argument", "an integer above 64 bits")
            if value >= 0:
                _write_head(out, _UINT, value)
            else:
                _write_head(out, _NINT, -1 - value)
    elif value is None:
        out.append(0xF6)
    elif kind is dict or kind is list or isinstance(value, (dict, tuple)):
        _write_head(out, _MAP if isinstance(value, dict) else _ARRAY, len(value))
        return False
    elif kind is float:
        out.extend(encode_float(value))
    elif kind is bool:
        out.append(0xF5 if value else 0xF4)
    else:
        ensure(False, "bad-argument", "CBOR has no form for this type here")
    return True


def _write_head(out: bytearray, major: int, value: int) -> None:
    """Append a head; the short ones without an object on the way, for they are in every event."""
    if value < 24:
        out.append(major << 5 | value)
    elif value < 256:
        out.append(major << 5 | 24)
        out.append(value)
    else:
        out.extend(head(major, value))


def _write_only_key(out: bytearray, value: "dict") -> "Any":
    """Append the head and the key of a map of one item, and return the item's value.

    Most events have one key: nothing to sort, and no list of pairs.
    """
    out.append(_MAP << 5 | 1)
    for key in value:
        name = (type(key) is str and _names.get(key)) or _name(key)
        out.extend(name)
    return value[key]


def _pairs(value: "dict") -> "list[tuple[bytes, Any]]":
    """Return (encoded key, value) of each item, in the order of the encoded keys."""
    pairs = []
    for key in value:
        pairs.append(((type(key) is str and _names.get(key)) or _name(key), value[key]))
    if len(pairs) > 1:
        pairs.sort()  # no two names are equal, so values are never compared
    return pairs


def _name(key: "Any") -> bytes:
    """Return an encoded key; keep that of a text, since a device sends the same ones again."""
    kind = type(key)
    if kind is not str and kind is not int and kind is not bytes:
        raise UsageError("bad-argument", "a key is an integer or a string")
    out = bytearray()
    _write(out, key)
    name = bytes(out)
    if kind is str and len(name) <= _NAME:
        if len(_names) >= _KEPT:
            _names.clear()
        _names[key] = name
    return name
