"""Ask for the PIN of the root key at the console: one line.

A board's console shows what the program prints, not what is typed; on the unix port the program
that starts the device keeps the terminal from showing it.
"""

import sys

from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

_MAX_PIN = const(128)


def _ask(stream: "Any") -> bytes:
    """Read one line byte by byte: what follows is not ours. Characters of a text would stay
    interned.
    """
    print("PIN of the root key:")
    line = bytearray()
    while True:
        byte = stream.read(1)
        if not byte:
            raise StoreError("root-key", "the PIN of the root key was not entered")
        if byte in b"\r\n":
            if line:
                return bytes(line)
            continue  # what is left of the line before
        line += byte
        if len(line) > _MAX_PIN:
            raise StoreError("root-key", "a PIN has 1 to 128 bytes")


def make(args: "tuple[()]") -> "Callable[[], bytes]":
    """Return the function of ASK = ("console",)."""
    return lambda: _ask(sys.stdin.buffer)
