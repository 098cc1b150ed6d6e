"""Chunks of an update, compressed on their way: raw deflate (RFC 1951) with a window of 1 KB, each chunk by itself, so that a device needs 2 KB to take
one and can go on anywhere after a cut. docs/update.md has what that saves, and what larger windows would save and cost."""

import zlib

WINDOW_BITS = 10
# For less, a device shall not work.
_WORTH = 0.9


def pack(data: bytes) -> bytes | None:
    """None where compressing is not worth it: an encrypted image, a picture."""
    work = zlib.compressobj(9, zlib.DEFLATED, -WINDOW_BITS)
    packed = work.compress(data) + work.flush()
    return packed if len(packed) <= _WORTH * len(data) else None
