"""Does an update fit? Asked once for each, before anything is written."""

from micropython import const

from .errors import PeerError, StoreError
from .romfs import BLOCK

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .update import Slots
    from .wire.suit_commands import Plan

_HASH = const(32)


def check_room(slots: "Slots", plan: "Plan", wanted: int) -> None:
    """wanted: bytes of the envelope, which is kept as well. StoreError slot-full; PeerError suit-condition for an image of nothing."""
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
