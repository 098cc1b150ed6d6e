"""What the flash kept of an update, read back before the slot record says that it is there. Loaded when all of it came, in the place of what fetched it.

    while after.step(): …            a block a call, so that a watchdog can be fed
    after.state, after.reason        Verifying, Installing, Testing (start the board anew), Rejected, Aborted

Accepted is said after the trial, by whoever confirms it.

Behind the hashes of the first component stands the envelope, for starts that verify it again (ota/boot_verify.py).
"""

import hashlib

from micropython import const

from ..errors import LinkError, PeerError, StoreError, WardenError
from .romfs import BLOCK
from .slots import named, scratch

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Generator, Iterator, Union

    from ..wire.suit_plan import Image, Plan
    from .download import Slots
    from .slots import SlotRecord

    Buffer = Union[bytes, bytearray, memoryview]

_HASH = const(32)
_PAGE = const(128)  # hashes of the map that are hashed again


class Root:
    """Makes the root of an image of `size` bytes out of the hashes of its blocks, in their order."""

    def __init__(self, size: int) -> None:
        self._all = hashlib.sha256(b"warden slot 1" + size.to_bytes(8, "big"))
        self._page = hashlib.sha256()
        self._count = 0

    def add(self, leaf: "Buffer") -> None:
        self._page.update(leaf)
        self._count += 1
        if self._count % (_PAGE) == 0:
            self._turn()

    def _turn(self) -> None:
        self._all.update(self._page.digest())
        self._page = hashlib.sha256()

    def digest(self) -> bytes:
        if self._count % (_PAGE):
            self._turn()
        return self._all.digest()


class ReadBack:
    """record, slots: the vault's and the board's. envelope: kept beside the images. grant: the trial passes the gate without a code."""

    def __init__(
        self, record: "SlotRecord", slots: "Slots", plan: "Plan", envelope: "Buffer", grant: bool
    ) -> None:
        self.state = "Verifying"
        self.reason = ""
        self.sequence = plan.sequence
        self._record = record
        self._slots = slots
        self._work: "Any" = self._stage(plan, envelope, grant)

    def step(self) -> bool:
        """Do a little of it. False when there is nothing more. PeerError or StoreError: the update ended."""
        if self._work is None:
            return False
        try:
            next(self._work)
            return True
        except StopIteration:
            self._work = None
        except (OSError, MemoryError) as error:
            found = named(error)
            self._end("Aborted", found.code)
            raise found
        except WardenError as error:
            self._end("Aborted", error.code)
            raise
        return False

    def want(self) -> None:
        """No chunk."""

    def chunk(self, number: int, data: "Buffer", now_ms: int) -> None:
        raise LinkError("update-state", "no chunk is wanted now")

    def tick(self, now_ms: int) -> bool:
        """No chunk is to be asked for again."""
        return False

    def abort(self) -> None:
        """What is there stays, for the same manifest to go on."""
        if self._work is None:
            raise LinkError("update-state", "no update is under way")
        self._work.close()  # and its files with it: littlefs must not hear of them later
        self._end("Aborted", "aborted")

    def _end(self, state: str, reason: str) -> None:
        self._work = None
        self.state, self.reason = state, reason

    def _stage(self, plan: "Plan", envelope: "Buffer", grant: bool) -> "Iterator[None]":
        slots, slot = self._slots, plan.slot
        buffer = scratch()
        done: "list[tuple[int, bytes, bytes]]" = [(0, b"", b"")] * len(slots.names)
        for image in plan.images:
            try:
                entry = yield from check(slots, slot, image, buffer, envelope)
            except PeerError as error:
                # Fetched anew when the manifest comes again, up to three times.
                slots.remove(slot, slots.names[image.component])
                refused = self._record.mismatched(plan.sequence)
                self._end("Rejected" if refused else "Aborted", error.code)
                return
            done[image.component] = entry
        self.state = "Installing"
        yield
        for image in plan.images:
            kept(slots, slot, image, buffer, envelope, done[image.component][2])
        self._record.stage(slot, plan.sequence, plan.floor, done, grant)
        try:
            slots.activate(slot)
        except PeerError as error:
            self._record.fail(slot)
            self._end("Rejected", error.code)
            return
        self._end("Testing", "")


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
        raise LinkError("image-mismatch", "the flash kept something else")
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
