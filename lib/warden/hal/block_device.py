"""The flash that board.py names: one partition or region, as a block device."""

from micropython import const

from ..errors import StoreError, ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


def block_device(kind: str, *where: "Any") -> "Any":
    """Return the flash of ("partition", label) on an ESP32, or of ("rp2", start, length).

    The latter lies behind the firmware's filesystem; bytes. Raises UsageError no-board; StoreError
    filesystem when this board has none such.
    """
    if kind == "partition":
        import esp32

        found = esp32.Partition.find(esp32.Partition.TYPE_DATA, label=where[0])
        if not found:
            raise StoreError("filesystem", "there is no data partition of that label")
        return found[0]
    ensure(kind == "rp2", "no-board", "board.py names a flash that Warden does not know")
    import rp2

    return rp2.Flash(start=where[0], len=where[1])
