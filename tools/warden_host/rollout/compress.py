"""Compress the chunks of an update: raw deflate (RFC 1951) with a window of 1 KB.

Each chunk is compressed by itself: a device needs 2 KB to inflate one, and goes on with any chunk
after an interruption. docs/update.md lists what this saves, and what larger windows save and cost.
"""

import zlib

WINDOW_BITS = 10
_WORTH = 0.9  # the largest share of its size for which a device inflates a chunk


def pack(data: bytes) -> bytes | None:
    """Return `data` deflated; None where that saves too little, as with an encrypted image."""
    work = zlib.compressobj(9, zlib.DEFLATED, -WINDOW_BITS)
    packed = work.compress(data) + work.flush()
    return packed if len(packed) <= _WORTH * len(data) else None
