"""Fetch the images of an update into the slot that does not run. Sans-IO: bytes and times go in,
requests come out. Loaded while images come (ota/update.py).

    download = Download(update, record, slots, chunk, now_ms)
    work = download.run(running)            a generator: the whole download, image by image
    download.want()                         the next chunk: (number, component, offset, length)
    download.chunk(number, data, now_ms)

A download that was cut goes on at the length that the filesystem kept, hashed again from zero. The
only buffer is one to read the flash with; chunks are views of their message.
"""

import hashlib

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError, StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Generator

    from ..wire.suit_plan import Image, Plan
    from .payload import Segments
    from .slots import SlotRecord, Slots
    from .update import Update

_CHUNK_MS = const(20000)  # for one chunk, then it is asked for again
_MOST_REQUESTS = const(4)  # of one chunk
# A peer that sends each chunk in the last moment must not keep an update open for ever.
_LONGEST_MS = const(6 * 3600 * 1000)
_ENOSPC = const(28)


class Download:
    """The download of one update.

    update: verified; it ends with the download's failure
    record: of the open vault
    slots: the board's
    chunk: bytes to ask for at a time, at most 1,024
    now_ms: uptime
    """

    def __init__(
        self, update: "Update", record: "SlotRecord", slots: "Slots", chunk: int, now_ms: int
    ) -> None:
        self._update = update
        self._record = record
        self._slots = slots
        self._chunk = chunk
        self._image: "Any" = None  # of the plan, the one that is being fetched
        self._segments: "Segments | None" = None  # of an encrypted image
        self._file: "Any" = None
        self._sha: "Any" = None
        self._left = 0  # bytes of the image that are to come
        self._half = 0  # with so many left, the file is flushed
        self._edge = 0  # with fewer left, _advance() has something to do
        self._wanted = 0  # bytes of the chunk that is outstanding
        self._number = 0
        self._asked = self._requests = 0  # the chunk that was asked for again, and how often
        # When the last one came, or was asked for; and when all of it must be over.
        self._came, self._last = now_ms, now_ms + _LONGEST_MS

    # -- the images, one after the other ------------------------------------------------------

    def run(self, running: "int | None") -> "Generator[bool, None, None]":
        """Fetch all images; then the update is Verifying.

        running: the slot from which images are copied that it holds, None for none
        Yields: True after a piece of work, False where a chunk has to come first
        """
        update, slots = self._update, self._slots
        plan: "Plan" = update.plan  # type: ignore[assignment]
        slot = plan.slot
        if not self._record.resumes(slot, plan.digest):
            # Before the record names the manifest: after a cut, old bytes would look like the
            # beginning of its images.
            for name in slots.names:
                slots.remove(slot, name)
                slots.remove(slot, name + ".map")
            self._record.clear(slot, plan.digest)
        for image in plan.images:
            name = slots.names[image.component]
            source = running
            while True:
                if source is not None and not self._record.slots[source].holds(image):
                    source = None
                yield from self._fetch(plan, image, name, source)
                if self._sha.digest() == image.digest:
                    break
                # All of it is fetched anew: now where a copy failed, which is not the peer's
                # fault, else when the manifest comes again.
                slots.remove(slot, name)
                if source is None:
                    update.mismatch("image-mismatch")
                    return
                source = running = None
        update.state = "Verifying"

    def _fetch(
        self, plan: "Plan", image: "Image", name: str, source: "int | None"
    ) -> "Generator[bool, None, None]":
        """Fetch one image, from the slot `source` where that holds it."""
        slots = self._slots
        self._image = image
        self._sha = hashlib.sha256()
        have = slots.size(plan.slot, name)
        if have > image.size:
            have = 0
        self._left = left = image.size - have
        try:
            if have and not (yield from self._copy(plan.slot, name, 0, have)):
                raise StoreError("slot-damaged", "the slot is shorter than it was")
            if left:
                self._file = slots.write(plan.slot, name, have > 0)
                if source is not None:
                    yield from self._copy(source, name, have, image.size)
                else:
                    if self._update.key is not None and image.encryption is not None:
                        from .payload import Segments

                        self._segments = Segments(self._update.key, plan.sequence, name, image)
                        self._segments.start(have)
                    self._half = image.size - image.size // 2
                    if left <= self._half:
                        self._half = -1
                    # Until the next image, its memory is the chunks'.
                    unload("warden.ota.reuse")
                    self._advance()
                    while self._left:
                        yield False
                file, self._file = self._file, None
                file.close()
        finally:
            self._close()
        yield True

    def _copy(self, slot: int, name: str, at: int, size: int) -> "Generator[bool, None, bool]":
        """Hash a part of a slot, and write it to the open file if there is one.

        In a function of its own: a generator's local would keep the module.
        """
        from .reuse import copy

        return copy(self._slots.read(slot, name), at, size, self._file, self._sha)

    def _close(self) -> None:
        file, self._file = self._file, None
        self._wanted = 0
        if self._segments is not None:
            self._segments.close()
            self._segments = None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass  # the next download hashes what the flash kept

    # -- chunks -------------------------------------------------------------------------------

    def want(self) -> "tuple[int, str, int, int] | None":
        """Return (number, component, offset, length) of the chunk to come, None for none."""
        if not self._wanted:
            return None
        image = self._image
        name = self._slots.names[image.component]
        if self._segments is not None:
            return (self._number, name) + self._segments.want(self._chunk)
        return self._number, name, image.size - self._left, self._wanted

    def source(self) -> "tuple[bytes, int]":
        """Return (address, bytes) of the image that is coming, as a web server has it."""
        image = self._image
        return image.uri, image.size if self._segments is None else self._segments.total()

    def chunk(self, number: int, data: "bytes | memoryview", now_ms: int) -> None:
        """Write and hash a chunk.

        Raises: LinkError update-chunk: not the one that was asked for, and nothing changed. Every
          other error ends the update.
        """
        # Hash and flash are to take nine tenths of a chunk's time: what can wait is not done here.
        wanted = self._wanted
        if not wanted:
            raise LinkError("update-state", "no chunk is wanted now")
        if len(data) != wanted or number != self._number:
            raise LinkError("update-chunk", "not the chunk that was asked for")
        try:
            if self._segments is not None:
                data = self._open(data)
                wanted = len(data)
            if self._file.write(data) != wanted:
                raise OSError(_ENOSPC)
            self._left = left = self._left - wanted
            self._number = number + 1
            self._came = now_ms
            if left < self._edge:
                self._advance()
        except (OSError, MemoryError) as error:
            raise self._update.fail(error)
        if wanted:
            self._sha.update(data)

    def _open(self, data: "bytes | memoryview") -> "bytes | memoryview":
        """Return the plain bytes that a part of a segment completes.

        Raises: LinkError payload-tampered; what the flash holds authenticated, and stays.
        """
        try:
            return self._segments.open(data)  # type: ignore[union-attr]
        except PeerError as error:
            self._update.mismatch(error.code)
            raise

    def _advance(self) -> None:
        """Set what follows from the bytes that are left: the next chunk, a flush, the end."""
        if self._left <= self._half:
            # Half a download at most is fetched twice after a cut, for one more commit of the
            # filesystem.
            self._half = -1
            self._file.flush()
        self._wanted = min(self._chunk, self._left)
        self._edge = max(self._half + 1, self._chunk)
        if self._segments is not None and self._left:
            self._wanted = self._segments.want(self._chunk)[1]
            self._edge = self._left + 1

    def tick(self, now_ms: int) -> bool:
        """Return whether to ask for the chunk again. After the last request the update is over."""
        if not self._wanted or now_ms < min(self._came + _CHUNK_MS, self._last):
            return False
        if self._asked != self._number:
            self._asked, self._requests = self._number, 0
        self._requests += 1
        if self._requests >= _MOST_REQUESTS or now_ms >= self._last:
            self._update.end("Aborted", "update-timeout")
            return False
        self._came = now_ms
        return True
