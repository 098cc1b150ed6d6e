"""Inflate a compressed chunk of an update: raw deflate (RFC 1951) with a window of 1 KB, each
chunk by itself. Loaded for the first such chunk.

The manifest's digest decides on the result. Memory is bounded: a chunk is as long as the one that
was asked for, 1,024 bytes at most; a longer or shorter one, and bytes behind it, are refused.
"""

import io

import deflate
from micropython import const

from ..errors import LinkError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Union

    Buffer = Union[bytes, bytearray, memoryview]

_WINDOW_BITS = const(10)


def inflate(packed: "Buffer", size: int) -> bytearray:
    """Return the `size` bytes that a chunk holds.

    Raises: LinkError update-chunk: it holds more, less, or is no deflate.
    """
    out = bytearray(size)
    view = memoryview(out)
    source = io.BytesIO(packed)
    stream = deflate.DeflateIO(source, deflate.RAW, _WINDOW_BITS)
    try:
        while len(view):
            count = stream.readinto(view)
            if not count:
                break
            view = view[count:]
        whole = not len(view) and not stream.read(1) and not source.read(1)
    except (OSError, EOFError):
        whole = False  # no deflate, or with a larger window
    if not whole:
        raise LinkError("update-chunk", "a compressed chunk of another length than was asked for")
    return out
