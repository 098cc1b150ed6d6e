"""CBOR in its core deterministic encoding (RFC 8949 §4.2.1), and nothing else.

cbor2 does the work; this file holds it to one encoding for each value. Whatever a device sends must
re-encode to the very same bytes, so two different messages never decode alike, and tags, which can
build cycles, huge numbers or dates out of a few bytes, are refused before anything is decoded.
"""

from typing import Any, TypeGuard

import cbor2

from warden_host.errors import HostError

MAX_DEPTH = 16
MAX_BYTES = 16384  # the largest max_message that a policy can set
_SIMPLE = (20, 21, 22, 25, 26, 27)  # false, true, null, and the three widths of float


def encode(value: Any) -> bytes:
    """The deterministic encoding of a plain value; raises bad-argument for any other type.

    cbor2's canonical=True sorts map keys by RFC 7049's older rule (shorter first), so maps are put
    together here and only scalars are left to it.
    """
    return _encode(value, 0)


def _encode(value: Any, depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise HostError("cbor-limit", f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        if not {type(key) for key in value} <= {int, str, bytes}:
            raise HostError("bad-argument", "a map key is neither integer, text nor bytes")
        items = sorted((_encode(k, depth + 1), _encode(v, depth + 1)) for k, v in value.items())
        return _head(5, len(items)) + b"".join(key + item for key, item in items)
    if isinstance(value, (list, tuple)):
        return _head(4, len(value)) + b"".join(_encode(item, depth + 1) for item in value)
    if isinstance(value, int) and not -(1 << 64) <= value < 1 << 64:
        raise HostError("bad-argument", "an integer takes more than 64 bits")
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        try:
            return cbor2.dumps(value, canonical=True)
        except UnicodeEncodeError:  # a lone surrogate, as JSON's "\\ud800" gives one
            raise HostError("bad-argument", "text that is not valid Unicode") from None
    raise HostError("bad-argument", f"a {type(value).__name__} has no place in a message")


def is_u32(value: Any) -> TypeGuard[int]:
    """An unsigned integer up to 2^32 - 1, as every number of the protocol is; True is not 1 here."""
    return type(value) is int and 0 <= value < 1 << 32


def _head(major: int, count: int) -> bytes:
    return bytes([cbor2.dumps(count)[0] | major << 5]) + cbor2.dumps(count)[1:]


def decode(data: bytes, limit: int = MAX_BYTES) -> Any:
    """The one value that data encodes; raises cbor-limit, cbor-malformed, cbor-not-canonical."""
    if len(data) > limit:
        raise HostError("cbor-limit", f"{len(data)} bytes where {limit} are allowed")
    scan(data)
    try:
        value = cbor2.loads(data, max_depth=MAX_DEPTH + 1, allow_indefinite=False)
        again = encode(value)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise HostError("cbor-malformed", "not one well-formed value") from error
    except HostError as error:
        raise HostError("cbor-malformed", error.text) from None
    if again != data:
        raise HostError("cbor-not-canonical", "not in the deterministic encoding")
    return value


def scan(data: bytes) -> None:
    """One well-formed value without tags, or cbor-malformed, cbor-limit. Walks the heads alone: nothing is built, so nothing in data can cost more than a pass."""
    at = 0
    open_: list[int] = [1]  # items still owed at each depth
    while open_:
        if open_[-1] == 0:
            open_.pop()
            continue
        open_[-1] -= 1
        if at >= len(data):
            raise HostError("cbor-malformed", "ends early")
        major, info = data[at] >> 5, data[at] & 31
        at += 1
        if info > 27:
            raise HostError("cbor-malformed", "an indefinite or reserved length")
        width = 0 if info < 24 else 1 << (info - 24)
        argument = info if width == 0 else int.from_bytes(data[at : at + width], "big")
        at += width
        if at > len(data):
            raise HostError("cbor-malformed", "ends early")
        if major in (2, 3):
            at += argument
        elif major in (4, 5):
            if argument > len(data) - at:
                raise HostError("cbor-malformed", "announces more items than bytes")
            if len(open_) > MAX_DEPTH:
                raise HostError("cbor-limit", f"nested deeper than {MAX_DEPTH}")
            open_.append(argument * (major - 3))
        elif major == 6:
            raise HostError("cbor-malformed", "a tag, and no format of ours has any")
        elif major == 7 and info not in _SIMPLE:
            raise HostError("cbor-malformed", "an unknown simple value")
        if at > len(data):
            raise HostError("cbor-malformed", "ends early")
    if at != len(data):
        raise HostError("cbor-malformed", "bytes after the value")
