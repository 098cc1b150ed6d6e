"""The comb table of a P-256 release key, which halves the time of its signatures.

A file beside the slots for each key. A table decides which signatures are valid, so nothing of a
file is used unless it ends with the MAC, under a key of the vault, of this release key and this
table: an attacker who writes the filesystem can make a file useless, and no more. Without a good
file the signature is verified the slow way, and the table is made anew.
"""

from micropython import const

from ..crypto import ct
from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault
    from .slots import Slots

# Numbers behind those of the two slots: never locked, and no update clears them.
_FIRST = const(2)
_PART = const("table")
_SIZE = const(2560)
_MAC = const(32)
_ROOM = const(16384)  # with it: each file of the update may take most of a block more


def attach(vault: "Vault", slots: "Slots", keys: "list[Any]") -> None:
    """Let each P-256 key use its table: it is read when a signature is verified, and let go of.

    keys: release keys as ota/update.py makes them, in the order of the record `release`.
    """
    for number, key in enumerate(keys):
        if hasattr(key, "load_table"):
            key.load_table = _loader(vault, slots, _FIRST + number, key)


def keep(vault: "Vault", slots: "Slots", keys: "list[Any]", spare: int) -> None:
    """Make and write the table of a key that has verified a signature without one.

    spare: bytes of the filesystem that nothing else will need; the table must leave no update
      without room
    """
    if spare < _ROOM:
        return
    for number, key in enumerate(keys):
        if not getattr(key, "slow", False):
            continue
        try:
            table = key.make_table()
            mac = vault.mac(b"table", key.encoded, table)
            file = slots.write(_FIRST + number, _PART)
            try:
                file.write(table)
                file.write(mac)
            finally:
                file.close()
        except (MemoryError, OSError, StoreError):
            pass  # the slow way goes on


def _loader(vault: "Vault", slots: "Slots", number: int, key: "Any") -> "Any":
    def load() -> "bytes | None":
        """Return the file's bytes, the table first; None unless they are authentic."""
        try:
            file = slots.read(number, _PART)
        except StoreError:
            return None
        try:
            data: bytes = file.read(_SIZE + _MAC + 1)
        except (MemoryError, OSError):
            return None  # the slow way needs less in one piece
        finally:
            file.close()
        if len(data) != _SIZE + _MAC:
            return None
        mac = vault.mac(b"table", key.encoded, memoryview(data)[:_SIZE])
        return data if ct.equal(mac, data[_SIZE:]) else None

    return load
