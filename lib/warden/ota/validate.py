"""What judges an update. Loaded for that, and forgotten again (ota/order.py).

plan = judge(vault, slots, running, release, envelope)      whose it is and what it asks for
key = admit(vault, slots, plan, len(envelope), wrapped)     whether it fits, and opens
"""

from micropython import const

from ..errors import PeerError, StoreError
from ..wire import suit
from ..wire.suit_commands import Target
from .romfs import BLOCK
from .slots import SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Sequence, Union

    from ..vault import Vault
    from ..wire.cose import Verifier
    from ..wire.suit_plan import Plan
    from .download import Slots

    Buffer = Union[bytes, bytearray, memoryview]

_HASH = const(32)


def judge(
    vault: "Vault",
    slots: "Slots",
    running: "int | None",
    release: "tuple[bytes, bytes, Sequence[Verifier]]",
    envelope: "Buffer",
) -> "Plan":
    """release: (vendor, class, keys) of this device. PeerError as of wire/suit.py, and update-state where no slot may be written."""
    vendor, class_id, keys = release
    record = SlotRecord(vault)
    slot = record.spare(running, slots.engaged)
    components = [(name.encode(),) for name in slots.names]
    return suit.process(envelope, keys, Target(vendor, class_id, slot, components, record.least))


def admit(
    vault: "Vault", slots: "Slots", plan: "Plan", size: int, wrapped: "bytes | None"
) -> "bytearray | None":
    """size: of the envelope. wrapped: the key that came with it. The key of an encrypted update, which the caller wipes. PeerError as of
    payload.content_key(); StoreError slot-full."""
    _check_room(slots, plan, size)
    if wrapped is None and all([image.encryption is None for image in plan.images]):
        return None
    from .payload import content_key

    return content_key(vault, wrapped, plan)


def _check_room(slots: "Slots", plan: "Plan", wanted: int) -> None:
    """Does it fit? Before anything is written. wanted: bytes of the envelope, which is kept as well. StoreError slot-full; PeerError suit-condition for an image of nothing."""
    files = ""
    for image in plan.images:
        if image.size == 0:
            raise PeerError("suit-condition", "an empty image")
        name = slots.names[image.component]
        if name == slots.firmware:
            if image.size > slots.room(name):
                raise StoreError("slot-full", "the firmware is larger than its partition")
            continue
        files = name
        wanted += image.size + (image.size + BLOCK - 1) // BLOCK * _HASH
        wanted -= slots.size(plan.slot, name) + slots.size(plan.slot, name + ".map")
    if wanted > slots.room(files):
        raise StoreError("slot-full", "the update does not fit: free some space")
