"""Provisioning, on the device: read the bundle from the console and seal it.

The bundle comes over standard input (4-byte big-endian length, then the bytes): never on a command
line, where other processes can read it, and never as a file that would have to be erased again.
Where the root key needs a PIN, that follows in the same form. The answer is one line of JSON,
without secrets.
"""

import json
import sys

from micropython import const

from ..board.load import board_vault
from ..errors import StoreError, UsageError, WardenError
from .bundle import MAX_BUNDLE, install

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


_MAX_PIN = const(128)


def _read(stream: "Any", count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = stream.read(count - len(data))
        if not part:
            raise UsageError("bad-bundle", "the bundle, or the PIN behind it, is cut short")
        data += part
    return data


def _read_framed(stream: "Any", most: int) -> bytes:
    size = int.from_bytes(_read(stream, 4), "big")
    if not 0 < size <= most:
        raise UsageError("bad-bundle", "the length of the bundle or of the PIN is out of range")
    return _read(stream, size)


def provision(stream: "Any") -> None:
    """Read one bundle from a binary stream and install it.

    UsageError bad-bundle, bad-policy, no-board; StoreError already-provisioned and others.
    """
    bundle = _read_framed(stream, MAX_BUNDLE)
    _, vault = board_vault(lambda: _read_framed(stream, _MAX_PIN))
    try:
        install(vault, bundle)
    except StoreError as error:
        if error.code != "wiped":
            raise
        from ..vault.wipe import finish

        finish(vault.store)  # the power failed during a wipe
        install(vault, bundle)
    vault.close()


def main() -> int:
    """Provision and return 0, or 1; print {"ok": true} or {"ok": false, "error": …, "text": …}."""
    try:
        provision(sys.stdin.buffer)
    except WardenError as error:
        print(json.dumps({"ok": False, "error": error.code, "text": error.text}))
        return 1
    print(json.dumps({"ok": True}))
    return 0
