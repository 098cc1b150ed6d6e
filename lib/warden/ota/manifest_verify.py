"""Verify the manifest of an update. Loaded for that alone (ota/update.py).

plan = verify(vault, slots, running, release, envelope)     who signed it, and what it asks for
spare = check_room(slots, plan, len(envelope))              whether it fits
key = content_key(vault, plan, wrapped)                     whether it opens
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
    from .slots import Slots

    Buffer = Union[bytes, bytearray, memoryview]

_HASH = const(32)


def verify(
    vault: "Vault",
    slots: "Slots",
    running: "int | None",
    release: "tuple[bytes, bytes, Sequence[Verifier]]",
    envelope: "Buffer",
) -> "Plan":
    """Verify an envelope, and return its plan for the slot that it may overwrite.

    running: the slot that runs, None for neither
    release: (vendor, class, keys) of this device
    Raises: PeerError as of wire/suit.py; update-state where no slot may be written.
    """
    vendor, class_id, keys = release
    record = SlotRecord(vault)
    slot = record.spare(running, slots.engaged)
    components = [(name.encode(),) for name in slots.names]
    return suit.process(
        envelope, keys, Target(vendor, class_id, slot, components, record.must_exceed)
    )


def content_key(vault: "Vault", plan: "Plan", wrapped: "bytes | None") -> "bytearray | None":
    """Return the key of an update, which the caller wipes; None without encryption.

    wrapped: the key that came with it
    Raises: PeerError as of payload.content_key().
    """
    if wrapped is None and all([image.encryption is None for image in plan.images]):
        return None
    from . import payload

    return payload.content_key(vault, wrapped, plan)


def check_room(slots: "Slots", plan: "Plan", wanted: int) -> int:
    """Check that the images, their maps and the envelope fit.

    wanted: bytes of the envelope
    Returns: the bytes that they leave free
    Raises: StoreError slot-full; PeerError suit-condition for an image of no bytes.
    """
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
    room = slots.room(files)
    if wanted > room:
        raise StoreError("slot-full", "the update does not fit: free some space")
    return room - wanted
