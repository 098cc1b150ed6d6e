"""CBOR in its core deterministic encoding (RFC 8949 §4.2.1), and nothing else.

One value has one encoding: what decodes encodes to the very same bytes, so two different messages
never decode alike. `scan()` walks the heads and checks that before cbor2 builds anything. A tag,
which can build cycles, huge numbers or dates out of a few bytes, ends the walk, and so does a list
or map that announces too many items. docs/protocol.md, Limits of a value, has the numbers.
"""

import struct
from typing import Any, NamedTuple, TypeGuard

import cbor2

from warden_client.errors import HostError
from warden_client.values import MAX_DEPTH, check_scalar

MAX_BYTES = 16384  # the largest max_message that a policy can set


class Limits(NamedTuple):
    """Bounds of one value. An item is a head: each list, map, key and value counts as one."""

    depth: int  # lists and maps within each other
    items: int
    containers: int  # lists and maps altogether


# Of values that this side reads. A device sends none beyond (lib/warden/wire/cbor.py).
LIMITS = Limits(depth=MAX_DEPTH, items=2048, containers=2048)
# Of values that a device reads.
DEVICE_LIMITS = Limits(depth=8, items=2048, containers=128)

UINT, NINT, BYTES, TEXT, ARRAY, MAP, TAG, OTHER = range(8)
# The heads of small arguments, by major type and argument.
_HEADS = tuple(
    tuple(
        bytes((major << 5 | number,) if number < 24 else (major << 5 | 24, number))
        for number in range(256)
    )
    for major in range(UINT, TAG)
)
_WIDER = (struct.Struct(">BH"), struct.Struct(">BI"), struct.Struct(">BQ"))  # and of others
# Of each argument in an initial byte: the width of what follows, and the least that it may say.
_WIDTHS = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}
_WIDTHS |= {reserved: (0, 0) for reserved in range(28, 32)}
_SIMPLE = b"\xf4\xf5\xf6"  # false, true, null
# By initial byte: the bytes of a scalar whose argument is in that byte; 0 of any other item.
_SHORT = bytes(
    0
    if first & 31 > 23 or (ARRAY << 5 <= first and first not in _SIMPLE)
    else 1 + first % 32 * (first >> 5 in (BYTES, TEXT))
    for first in range(256)
)
_KEYS = frozenset((int, str, bytes))
# Of each width of float: its form; the bits of its exponent, all set in NaN and the infinities;
# the bits that the next narrower width has no place for.
_FLOATS = {
    25: (">e", 0x1F << 10, 0),
    26: (">f", 0xFF << 23, (1 << 13) - 1),
    27: (">d", 0x7FF << 52, (1 << 29) - 1),
}


def encode(value: Any) -> bytes:
    """Return the deterministic encoding of a plain value.

    Raises: bad-argument for a value that has none, NaN and infinities among them; cbor-limit.

    cbor2's canonical=True sorts map keys by RFC 7049's older rule (shorter first), so maps are put
    together here and only scalars are left to it.
    """
    return _encode(value, MAX_DEPTH)


def encode_for_device(value: Any) -> bytes:
    """Return the encoding of a value that a device can read; raises bad-argument, cbor-limit."""
    data = _encode(value, DEVICE_LIMITS.depth)
    if len(data) > DEVICE_LIMITS.containers:  # else there are no more items than bytes
        scan(data, DEVICE_LIMITS)
    return data


def _encode(value: Any, depth: int) -> bytes:
    """depth: how many lists and maps may be within each other."""
    # The most frequent types first, and without cbor2: a call of it costs as much as ten of these.
    kind = type(value)
    if kind is int and 0 <= value < 1 << 64:
        return head(UINT, value)
    if kind is str:
        return _text(value)
    if kind is bytes:
        return byte_string(value)
    if value is None:
        return b"\xf6"
    if isinstance(value, (dict, list, tuple)) and not depth:
        raise HostError("cbor-limit", "lists and maps are nested too deep")
    if isinstance(value, dict):
        if not _KEYS.issuperset(map(type, value)):
            raise HostError("bad-argument", "a map key is neither integer, text nor bytes")
        items = sorted([(_encode(k, 0), _encode(v, depth - 1)) for k, v in value.items()])
        return head(MAP, len(items)) + b"".join([key + item for key, item in items])
    if isinstance(value, (list, tuple)):
        return head(ARRAY, len(value)) + b"".join([_encode(item, depth - 1) for item in value])
    check_scalar(value)
    return cbor2.dumps(value, canonical=True)


def _text(value: str) -> bytes:
    try:
        text = value.encode()
    except UnicodeEncodeError:
        check_scalar(value)  # says what is wrong
        raise
    return head(TEXT, len(text)) + text


def is_u32(value: Any) -> TypeGuard[int]:
    """Return whether it is an integer from 0 to 2^32 - 1, as all numbers of the protocol are."""
    return type(value) is int and 0 <= value < 1 << 32


def head(major: int, argument: int) -> bytes:
    """Return the shortest head of this major type."""
    if argument < 1 << 8:
        return _HEADS[major][argument]
    wider = 0 if argument < 1 << 16 else 1 if argument < 1 << 32 else 2
    return _WIDER[wider].pack(major << 5 | 25 + wider, argument)


def byte_string(value: bytes) -> bytes:
    """Return the encoding of a byte string."""
    length = len(value)
    return (_HEADS[BYTES][length] if length < 1 << 8 else head(BYTES, length)) + value


def read_head(data: bytes, at: int, canonical: bool = True) -> tuple[int, int, int]:
    """Return (major type, argument, where its content begins) of the head at this place.

    The argument of a float is its bits; that of a string, list or map is held against the bytes
    that are left. canonical=False takes a head that is longer than needed.
    Raises: cbor-malformed, cbor-not-canonical.
    """
    if at >= len(data):
        raise HostError("cbor-malformed", "ends early")
    major, argument = data[at] >> 5, data[at] & 31
    at += 1
    width, least = _WIDTHS.get(argument, (0, 0))
    if argument > 23:
        if not width:
            raise HostError("cbor-malformed", "an indefinite or reserved length")
        argument = int.from_bytes(data[at : at + width], "big")
        at += width
    if at > len(data) or (BYTES <= major <= MAP and argument > len(data) - at):
        raise HostError("cbor-malformed", "ends early")
    if canonical and argument < least and major != OTHER:
        raise HostError("cbor-not-canonical", "a head that is longer than needed")
    return major, argument, at


def decode(data: bytes, limit: int = MAX_BYTES) -> Any:
    """Return the one value that data encodes.

    limit: bytes. Raises: cbor-limit, cbor-malformed, cbor-not-canonical.
    """
    if len(data) > limit:
        raise HostError("cbor-limit", f"{len(data)} bytes where {limit} are allowed")
    scan(data)
    try:
        return cbor2.loads(data, max_depth=MAX_DEPTH + 1, allow_indefinite=False)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise HostError("cbor-malformed", "text that is not valid UTF-8") from error


def scan(data: bytes, limits: Limits = LIMITS, canonical: bool = True) -> int:
    """Check the heads of one value and return the number of its items; nothing is built.

    canonical=False takes every encoding with definite lengths, and keys of any type.
    Raises: cbor-malformed, cbor-not-canonical, cbor-limit.
    """
    at, end = 0, len(data)
    items, containers = 1, 0
    # Of the list or map that is open: items that it still owes; a map's last key (None: a list).
    owed, last = 1, None
    around: list[tuple[int, bytes | None]] = []
    while True:
        while not owed:
            if not around:
                if at != end:
                    raise HostError("cbor-malformed", "bytes after the value")
                return items
            owed, last = around.pop()
        owed -= 1
        if at >= end:
            raise HostError("cbor-malformed", "ends early")
        start, first = at, data[at]
        major, short = first >> 5, _SHORT[first]
        if short:
            at += short
        else:
            argument = first & 31
            at += 1
            if argument > 23:
                width, least = _WIDTHS[argument]
                argument = int.from_bytes(data[at : at + width], "big")
                at += width
                if not width or (argument < least and major != OTHER):
                    major, argument, at = read_head(data, start, canonical)  # says what is wrong
            if BYTES <= major <= TEXT:
                at += argument
        if at > end:
            raise HostError("cbor-malformed", "ends early")
        if last is not None and owed & 1 and canonical:  # the item is a key
            if major > TEXT:
                raise HostError("cbor-malformed", "a key is neither integer, text nor bytes")
            if last >= data[start:at]:
                raise HostError("cbor-not-canonical", "keys out of order, or one twice")
            last = data[start:at]
        if short or major <= TEXT:
            continue
        if major == OTHER:
            _check_float(data[start] & 31, argument, canonical)
        elif major == TAG:
            raise HostError("cbor-malformed", "a tag, and no format of ours has any")
        else:
            children = argument * (major - 3)
            containers += 1
            items += children
            if children > end - at:
                raise HostError("cbor-malformed", "announces more items than bytes")
            if len(around) >= limits.depth:
                raise HostError("cbor-limit", f"nested deeper than {limits.depth}")
            if containers > limits.containers:
                raise HostError("cbor-limit", f"more than {limits.containers} lists and maps")
            if items > limits.items:
                raise HostError("cbor-limit", f"more than {limits.items} items")
            around.append((owed, last))
            owed, last = children, None if major == ARRAY else b""


def _check_float(info: int, bits: int, canonical: bool) -> None:
    """Raise unless it is a finite float, in its shortest form where canonical."""
    if info not in _FLOATS:
        raise HostError("cbor-malformed", "an unknown simple value")
    _form, exponent, spare = _FLOATS[info]
    if bits & exponent == exponent:
        raise HostError("cbor-malformed", "NaN or an infinity")
    if canonical and not bits & spare and info > 25 and _fits_narrower(info, bits):
        raise HostError("cbor-not-canonical", "a float that is longer than needed")


def _fits_narrower(info: int, bits: int) -> bool:
    number: float = struct.unpack(_FLOATS[info][0], bits.to_bytes(1 << (info - 24), "big"))[0]
    narrower = _FLOATS[info - 1][0]
    try:
        return bool(struct.unpack(narrower, struct.pack(narrower, number))[0] == number)
    except OverflowError:
        return False
