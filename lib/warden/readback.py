"""What the flash kept of an update, read back before the slot record says that it is there. Loaded when all of it came.

    entry = yield from check(…)      the digest once more, and the hashes that each later read is checked against, written beside the image
    kept(…)                          those hashes, read back as well

Behind the hashes of the first component stands the envelope, for starts that verify it again (strict.py).
"""

import hashlib

from micropython import const

from .errors import PeerError, StoreError
from .romfs import BLOCK, Root

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Generator, Union

    from .update import Slots
    from .wire.suit_commands import Image

    Buffer = Union[bytes, bytearray, memoryview]

_HASH = const(32)


def check(
    slots: "Slots", slot: int, image: "Image", buffer: memoryview, envelope: "Buffer"
) -> "Generator[None, None, tuple[int, bytes, bytes]]":
    """The image's entry for the slot record: (size, digest, root). Yields after each block. PeerError image-mismatch, or what the firmware's judge
    says; StoreError slot-damaged."""
    name = slots.names[image.component]
    whole = hashlib.sha256()
    root = Root(image.size)
    judge = hashes = None
    file = slots.read(slot, name)
    try:
        if name == slots.firmware:
            judge = slots.judge(image.size)
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
                if judge is not None:
                    judge.update(view)
                size -= len(view)
            leaf = block.digest()
            root.add(leaf)
            if hashes is not None:
                hashes.write(leaf)
            yield
        if hashes is not None and image.component == 0:
            hashes.write(envelope)
    finally:
        file.close()
        if hashes is not None:
            hashes.close()
    digest = whole.digest()
    if digest != image.digest:
        raise PeerError("image-mismatch", "the flash kept something else")
    if judge is not None:
        judge.finish()
    return image.size, digest, root.digest()


def kept(
    slots: "Slots",
    slot: int,
    image: "Image",
    buffer: memoryview,
    envelope: "Buffer",
    root: bytes,
) -> None:
    """StoreError slot-damaged when the flash gives other hashes back, or another envelope. A firmware has none."""
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
