"""Random bytes that fail closed.

The chip's generator is trusted for its quality, not for being there: a port without `os.urandom`,
a driver that answers short or a generator that is stuck must stop the device before it makes a key
or a nonce, never let it go on with zeros.
"""

import hashlib
import os

from micropython import const

from ..errors import StoreError, ensure

# The smallest draw. Below 16 bytes equal draws happen by chance, and the checks would say nothing.
_LEAST = const(16)

_source = getattr(os, "urandom", None)
# Digest of the last draw, not the draw: a key that was handed out must not stay in memory here.
_last = b""


def random_bytes(n: int) -> bytes:
    """Return n bytes from the system's generator, 0 to 4,096.

    Raises StoreError randomness when there is none, or it is visibly stuck.
    """
    global _last
    ensure(0 <= n <= 4096, "bad-argument", "0 to 4096 random bytes at a time")
    if _source is None:
        raise StoreError("randomness", "this firmware has no os.urandom")
    try:
        drawn = _source(max(n, _LEAST))
    except OSError:
        raise StoreError("randomness", "the generator failed")
    if len(drawn) != max(n, _LEAST):
        raise StoreError("randomness", "the generator answered short")
    if drawn == drawn[:1] * len(drawn):
        raise StoreError("randomness", "the generator is stuck")
    # The first 16 bytes, so that a stuck generator shows even when two draws differ in length.
    digest = hashlib.sha256(drawn[:_LEAST]).digest()
    if digest == _last:
        raise StoreError("randomness", "the generator repeats itself")
    _last = digest
    return drawn[:n]
