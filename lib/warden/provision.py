"""Provisioning, on the device: takes the bundle from the console and seals it.

The bundle comes over standard input (4-byte big-endian length, then the bytes): never on a command line, where other processes can read
it, and never as a file that would have to be erased again. The answer is one line of JSON, without secrets.
"""

import json
import sys

from micropython import const

from .bundle import MAX_BUNDLE, install
from .errors import StoreError, UsageError, WardenError
from .hardware import board_vault

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


def _read(stream: "Any", count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = stream.read(count - len(data))
        if not part:
            raise UsageError("bad-bundle", "the bundle is cut short")
        data += part
    return data


def provision(stream: "Any") -> None:
    """Read one bundle from a binary stream and install it. UsageError bad-bundle, bad-policy; StoreError already-provisioned and others."""
    size = int.from_bytes(_read(stream, 4), "big")
    if not 0 < size <= MAX_BUNDLE:
        raise UsageError("bad-bundle", "the bundle's length is out of range")
    bundle = _read(stream, size)
    _, vault = board_vault()
    try:
        install(vault, bundle)
    except StoreError as error:
        if error.code != "wiped":
            raise
        from .wipe import finish

        finish(vault._store)  # the power failed while a vault was being wiped
        install(vault, bundle)
    vault.close()


def main() -> int:
    """0 when the device is provisioned. Prints {"ok": true}, or {"ok": false, "error": slug, "text": …}."""
    try:
        provision(sys.stdin.buffer)
    except WardenError as error:
        print(json.dumps({"ok": False, "error": error.code, "text": error.text}))
        return 1
    print(json.dumps({"ok": True}))
    return 0
