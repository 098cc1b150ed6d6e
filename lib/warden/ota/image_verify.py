"""Verify a downloaded update by reading it back from flash, then stage its slot. Loaded in the
place of what fetched it (ota/update.py).

    work = stage(update, record, slots)        a generator: a block a turn

The envelope follows the hashes of the first component, for starts that verify it again
(ota/boot_verify.py). Accepted is reported after the trial (ota/trial.py).
"""

import hashlib

from micropython import const

from ..errors import LinkError, PeerError, StoreError
from .romfs import BLOCK
from .slots import make_buffer

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Generator, Union

    from ..wire.suit_plan import Image, Plan
    from .slots import SlotRecord, Slots
    from .update import Update

    Buffer = Union[bytes, bytearray, memoryview]

_HASH = const(32)
_PAGE = const(128)  # hashes of the map that are hashed again


class Root:
    """The root over the hashes of an image's blocks, which are added in their order.

    size: bytes of the image
    """

    def __init__(self, size: int) -> None:
        self._all = hashlib.sha256(b"warden slot 1" + size.to_bytes(8, "big"))
        self._page = hashlib.sha256()
        self._count = 0

    def add(self, leaf: "Buffer") -> None:
        """Add the hash of the next block."""
        self._page.update(leaf)
        self._count += 1
        if self._count % (_PAGE) == 0:
            self._turn()

    def _turn(self) -> None:
        self._all.update(self._page.digest())
        self._page = hashlib.sha256()

    def digest(self) -> bytes:
        """Return the root; nothing can be added after it."""
        if self._count % (_PAGE):
            self._turn()
        return self._all.digest()


def stage(update: "Update", record: "SlotRecord", slots: "Slots") -> "Generator[bool, None, None]":
    """Read all images back, write their maps, read those back, and stage the slot: the update is
    Testing.

    Yields: True after each block.
    """
    plan: "Plan" = update.plan  # type: ignore[assignment]
    slot = plan.slot
    buffer = make_buffer()
    done: "list[tuple[int, bytes, bytes]]" = [(0, b"", b"")] * len(slots.names)
    for image in plan.images:
        try:
            entry = yield from check(slots, slot, image, buffer, update.envelope)
        except PeerError as error:
            # Fetched anew when the manifest comes again, up to three times.
            slots.remove(slot, slots.names[image.component])
            update.mismatch(error.code)
            return
        done[image.component] = entry
    update.state = "Installing"
    yield True
    for image in plan.images:
        check_map(slots, slot, image, buffer, update.envelope, done[image.component][2])
    record.stage(slot, plan.sequence, plan.floor, done, update.granted)
    try:
        slots.activate(slot)
    except PeerError as error:
        record.fail(slot)
        update.end("Rejected", error.code)
        return
    update.end("Testing")


def check(
    slots: "Slots", slot: int, image: "Image", buffer: memoryview, envelope: "Buffer"
) -> "Generator[bool, None, tuple[int, bytes, bytes]]":
    """Read an image back, and write its map.

    buffer: to read the flash with
    envelope: follows the hashes of the first component
    Returns: the image's entry in the slot record, (size, digest, root)
    Raises: LinkError image-mismatch, or an error of the firmware's verifier; StoreError
      slot-damaged.
    """
    name = slots.names[image.component]
    whole = hashlib.sha256()
    root = Root(image.size)
    firmware = hashes = None
    file = slots.read(slot, name)
    try:
        if name == slots.firmware:
            if slots.make_check is not None:
                firmware = slots.make_check(image.size)
        else:
            hashes = slots.write(slot, name + ".map")
        left = image.size
        while left:
            block = hashlib.sha256()
            size = min(left, BLOCK)
            left -= size
            while size:
                view = buffer[: min(size, len(buffer))]
                if file.readinto(view) != len(view):
                    raise StoreError("slot-damaged", "the slot is shorter than it was")
                block.update(view)
                whole.update(view)
                if firmware is not None:
                    firmware.update(view)
                size -= len(view)
            leaf = block.digest()
            root.add(leaf)
            if hashes is not None:
                hashes.write(leaf)
            yield True
        if hashes is not None and image.component == 0:
            hashes.write(envelope)
    finally:
        file.close()
        if hashes is not None:
            hashes.close()
    digest = whole.digest()
    if digest != image.digest:
        raise LinkError("image-mismatch", "the flash kept something else")
    if firmware is not None:
        firmware.finish()
    return image.size, digest, root.digest()


def check_map(
    slots: "Slots",
    slot: int,
    image: "Image",
    buffer: memoryview,
    envelope: "Buffer",
    root: bytes,
) -> None:
    """Read a map back; a firmware has none.

    Raises: StoreError slot-damaged: the flash gives other hashes, or another envelope.
    """
    name = slots.names[image.component]
    if name == slots.firmware:
        return
    again = Root(image.size)
    same = True
    file = slots.read(slot, name + ".map")
    try:
        for _ in range(0, image.size, BLOCK):
            file.readinto(buffer[:_HASH])
            again.add(buffer[:_HASH])
        left = memoryview(envelope if image.component == 0 else b"")
        while len(left):
            size = min(len(left), len(buffer))
            same = same and file.readinto(buffer[:size]) == size
            same = same and buffer[:size] == left[:size]
            left = left[size:]
    finally:
        file.close()
    if not same or again.digest() != root:
        raise StoreError("slot-damaged", "the flash did not keep the hashes of the slot")
