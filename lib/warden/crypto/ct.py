"""Helpers for secrets: a comparison that does not stop early, and a wipe."""

from ._xor import unequal


def equal(
    value: "bytes | bytearray | memoryview", other: "bytes | bytearray | memoryview"
) -> bool:
    """Return whether both hold the same bytes.

    The time depends on the lengths only, which are public here: tags, pins and codes have fixed
    ones. An early exit would let an attacker who measures it find a tag byte by byte.
    """
    return len(value) == len(other) and not unequal(value, other, len(value))


def wipe(buf: "bytearray | memoryview") -> None:
    """Overwrite the whole buffer with zeros.

    Copies that the interpreter made elsewhere are out of reach: keep a secret in one object.
    """
    view = memoryview(buf)
    zeros = bytes(64)
    n = len(view)
    whole = n - n % 64
    for i in range(0, whole, 64):
        view[i : i + 64] = zeros
    for i in range(whole, n):
        view[i] = 0
