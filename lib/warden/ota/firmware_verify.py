"""Hash the firmware of a slot as a whole: before the chip is told to start it, and at each start
under a strict policy. Loaded on boards whose slots have one.
"""

import hashlib

from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable

    from .slots import Slot, Slots

_CHUNK = const(4096)


def check_firmware(
    slots: "Slots", number: int, slot: "Slot", feed: "Callable[[], None] | None"
) -> None:
    """Compare a slot's firmware with its entry in the record.

    feed: called after each 4,096 bytes, for a watchdog
    Raises: StoreError slot-damaged: it is another one, or none.
    """
    if slots.firmware is None or len(slot.images) != len(slots.names):
        raise StoreError("slot-damaged", "the slot has other components than this device")
    left, digest, _ = slot.images[slots.names.index(slots.firmware)]
    whole = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    file = slots.read(number, slots.firmware)
    try:
        while left:
            view = buffer[: min(left, _CHUNK)]
            if file.readinto(view) != len(view):
                raise StoreError("slot-damaged", "the slot is shorter than it was")
            whole.update(view)
            left -= len(view)
            if feed is not None:
                feed()
    finally:
        file.close()
    if whole.digest() != digest:
        raise StoreError("slot-damaged", "the firmware was changed after it was verified")
