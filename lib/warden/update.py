"""Takes an update: manifest → chunks into the slot that does not run → read back and hashed → staged for a trial. Sans-IO: bytes and times go
in, states and requests come out; the slots are given.

    updater.start(envelope, now_ms, key)     judged, signature first; nothing is written before
    while updater.step(): …                  the work between two messages, a few KB a call, so that a watchdog can be fed
    updater.want()                           the one chunk that is asked for: (number, component, offset, length)
    updater.chunk(number, data, now_ms)
    updater.state, updater.reason

States: Idle, Downloading, Verifying, Installing, Testing (start the board anew), Rejected (the update is bad), Aborted (it may be tried again). Accepted is said after the trial, by
whoever confirms it.

A download that was cut goes on at the length that the filesystem kept, hashed again from zero. One fixed buffer; views are handed out.
"""

import hashlib

from micropython import const

from .errors import PeerError, StoreError, WardenError
from .slots import SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Iterator, Protocol, Sequence

    from .payload import Segments
    from .vault import Vault
    from .wire.cose import Verifier
    from .wire.suit_commands import Image, Plan

    class Slots(Protocol):
        names: "tuple[str, ...]"
        firmware: "str | None"
        engaged: "int | None"

        def size(self, slot: int, part: str) -> int: ...
        def read(self, slot: int, part: str) -> "Any": ...
        def write(self, slot: int, part: str, resume: bool = False) -> "Any": ...
        def remove(self, slot: int, part: str) -> None: ...
        def room(self, part: str) -> int: ...
        def judge(self, size: int) -> "Any": ...
        def activate(self, slot: int) -> None: ...


CHUNK_MAX = 1024

_CHUNK_MS = const(20000)  # for one chunk, then it is asked for again
_MOST_REQUESTS = const(4)  # of one chunk
# A peer that sends each chunk in the last moment must not keep an update open for ever.
_LONGEST_MS = const(6 * 3600 * 1000)
_ENOSPC = const(28)


class Updater:
    """vault: open. running: the slot that runs, None for neither. keys: release keys. chunk: bytes asked for at a time, at most 1,024."""

    def __init__(
        self,
        vault: "Vault",
        slots: "Slots",
        running: "int | None",
        keys: "Sequence[Verifier]",
        vendor: bytes,
        class_id: bytes,
        chunk: int = CHUNK_MAX,
    ) -> None:
        self._vault = vault
        self._record = SlotRecord(vault)
        self._slots = slots
        self._running = running
        self._keys = keys
        self._vendor = vendor
        self._class_id = class_id
        self._chunk = min(chunk, CHUNK_MAX)
        self._buffer = memoryview(bytearray(CHUNK_MAX))
        self._plan: "Plan | None" = None
        self._envelope: "bytes | memoryview" = b""
        self._key: "bytearray | None" = None
        self._segments: "Segments | None" = None  # of an encrypted image
        self._grant = False
        self._work: "Any" = None  # a generator
        self._copied = False  # the present image comes out of the slot that runs
        self._source = running  # that slot; None: what did not change is fetched as well
        self._file: "Any" = None
        self._sha: "Any" = None
        self._image = 0  # which of the plan's is being fetched
        self._left = 0  # bytes of it that are to come
        self._half = 0  # with so many left, the file is flushed
        self._edge = 0  # with fewer left, _next() has something to do
        self._wanted = 0  # bytes of the chunk that is outstanding
        self._number = 0
        self._asked = self._requests = 0  # the chunk that was asked for again, and how often
        # When the last one came, or was asked for; and when all of it must be over.
        self._came = self._last = 0
        self.state = "Idle"
        self.reason = ""
        self.sequence = 0

    # -- from outside -------------------------------------------------------------------------

    def start(
        self,
        envelope: "bytes | memoryview",
        now_ms: int,
        key: "bytes | None" = None,
        grant: bool = False,
    ) -> None:
        """key: the wrapped key of an encrypted update (payload.py). grant: its trial passes the gate without a code. PeerError or StoreError when
        it is refused; then nothing was written."""
        if self._plan is not None:
            raise PeerError("update-state", "an update is under way: abort it first")
        # Here, so that whoever is short of memory can forget them once the manifest was judged.
        from .room import check_room
        from .wire import suit
        from .wire.suit_commands import Target

        record = self._record
        slot = record.spare(self._running, self._slots.engaged)
        self.sequence, self.reason = 0, ""
        try:
            components = [(name.encode(),) for name in self._slots.names]
            target = Target(self._vendor, self._class_id, slot, components, record.least)
            plan = suit.process(envelope, self._keys, target)
            self.sequence = plan.sequence
            resumes = record.resumes(slot, plan.digest)
            check_room(self._slots, plan, len(envelope))
            if key is not None or any([image.encryption is not None for image in plan.images]):
                from .payload import content_key

                self._key = content_key(self._vault, key, plan)
        except WardenError as error:
            self._end("Rejected", error.code)
            raise
        if not resumes:
            try:
                record.clear(slot)
                for name in self._slots.names:
                    self._slots.remove(slot, name)
                    self._slots.remove(slot, name + ".map")
                record.begin(plan.digest)
            except StoreError as error:
                self._end("Aborted", error.code)
                raise
        self._plan, self._envelope, self._grant = plan, envelope, grant
        self.state = "Downloading"
        self._image = self._number = self._asked = self._requests = 0
        self._last = now_ms + _LONGEST_MS
        self._came = now_ms
        self._work = self._open()

    def forget_keys(self) -> None:
        """The manifest was judged: the keys' code and tables are memory that the download can use. No start() after this."""
        self._keys = ()

    def step(self) -> bool:
        """Do a little of what needs no message. False when there is nothing of the kind. StoreError: the update ended."""
        if self._work is None:
            return False
        work = self._work
        try:
            next(work)
        except StopIteration:
            if self._work is work:
                self._work = None
        except (OSError, MemoryError) as error:
            raise self._broken(error)
        except WardenError as error:
            self._end("Aborted", error.code)
            raise
        return self._work is not None

    def want(self) -> "tuple[int, str, int, int] | None":
        """(number, component, offset, length) of the one chunk that is outstanding."""
        if not self._wanted or self._plan is None:
            return None
        image = self._plan.images[self._image]
        name = self._slots.names[image.component]
        if self._segments is not None:
            return (self._number, name) + self._segments.want(self._chunk)
        return self._number, name, image.size - self._left, self._wanted

    @property
    def by_web(self) -> bool:
        """Whether web servers have all of the images."""
        plan = self._plan
        return plan is not None and all([one.uri[:8] == b"https://" for one in plan.images])

    def source(self) -> "tuple[bytes, int]":
        """(the address that the manifest gives for the image that is coming, how many bytes lie there). While want() wants something."""
        if self._plan is None:
            raise PeerError("update-state", "no update is under way")
        image = self._plan.images[self._image]
        return image.uri, image.size if self._segments is None else self._segments.total()

    def chunk(self, number: int, data: "bytes | memoryview", now_ms: int) -> None:
        """PeerError update-chunk for any other chunk than the one that was asked for: nothing changed then."""
        # Nine tenths of the time that a chunk takes are to be its hash and its way to the flash: nothing is called or made here that can wait.
        wanted = self._wanted
        if not wanted:
            raise PeerError("update-state", "no chunk is wanted now")
        if len(data) != wanted or number != self._number:
            raise PeerError("update-chunk", "not the chunk that was asked for")
        try:
            if self._segments is not None:
                data = self._open_segment(data)
                wanted = len(data)
            if self._file.write(data) != wanted:
                raise OSError(_ENOSPC)
            self._left -= wanted
            self._number += 1
            self._came = now_ms
            if self._left < self._edge:
                self._next()
        except (OSError, MemoryError) as error:
            raise self._broken(error)
        if wanted:
            self._sha.update(data)

    def _open_segment(self, data: "bytes | memoryview") -> "bytes | memoryview":
        try:
            return self._segments.take(data)  # type: ignore[union-attr]
        except PeerError as error:
            # What is on the flash authenticated: it stays, for the same manifest to go on.
            self._refuse(error.code)
            raise

    def _next(self) -> None:
        """Called where more than the next chunk depends on how much came: its length, a flush, the end."""
        if self._left <= self._half:
            # Half a download at most is fetched twice after a cut, for one more commit of the filesystem.
            self._half = -1
            self._file.flush()
        self._wanted = min(self._chunk, self._left)
        self._edge = max(self._half + 1, self._chunk)
        if self._segments is not None and self._left:
            self._wanted = self._segments.want(self._chunk)[1]
            self._edge = self._left + 1
        if not self._left:
            self._work = self._fetched()

    def tick(self, now_ms: int) -> bool:
        """Whether the chunk is to be asked for again. Ends the update when that was done often enough."""
        due = self.due_ms()
        if due is None or now_ms < due:
            return False
        if self._asked != self._number:
            self._asked, self._requests = self._number, 0
        self._requests += 1
        if self._requests >= _MOST_REQUESTS or now_ms >= self._last:
            self._end("Aborted", "update-timeout")
            return False
        self._came = now_ms
        return True

    def due_ms(self) -> "int | None":
        return min(self._came + _CHUNK_MS, self._last) if self._wanted else None

    def abort(self) -> None:
        """What is there stays, for the same manifest to go on."""
        if self._plan is None:
            raise PeerError("update-state", "no update is under way")
        if self._work is not None:
            self._work.close()  # and its files with it: littlefs must not hear of them later
        self._end("Aborted", "aborted")

    # -- inside -------------------------------------------------------------------------------

    def _end(self, state: str, reason: str) -> None:
        file, self._file = self._file, None
        self._plan = self._work = self._sha = None
        self._wanted = 0
        self._envelope = b""
        self._close_segments()
        if self._key is not None:
            from .crypto import ct

            ct.wipe(self._key)
            self._key = None
        self.state, self.reason = state, reason
        if file is not None:
            try:
                file.close()
            except OSError:
                pass  # what was written is gone with it; the next start hashes what is really there

    def _close_segments(self) -> None:
        if self._segments is not None:
            self._segments.close()
            self._segments = None

    def _broken(self, error: "OSError | MemoryError") -> WardenError:
        """Ends the update, which would else wait for ever for work that is gone; what came stays."""
        if isinstance(error, MemoryError):
            self._end("Aborted", "command-failed")
            return PeerError("command-failed", "not enough memory for the update")
        full = error.errno == _ENOSPC
        found = StoreError("slot-full" if full else "filesystem", "can't write the slot")
        self._end("Aborted", found.code)
        return found

    def _open(self) -> "Iterator[None]":
        """Ready the file of the present image; hash again what a cut download left of it."""
        plan, slots = self._plan, self._slots
        if plan is None:
            return
        image = plan.images[self._image]
        name = slots.names[image.component]
        self._sha = hashlib.sha256()
        have = slots.size(plan.slot, name)
        if have > image.size:
            have = 0
        self._left = image.size - have
        half = image.size - image.size // 2
        self._half = half if self._left > half else -1
        if image.encryption is not None and self._key is not None:
            from .payload import Segments

            self._segments = Segments(self._key, plan.sequence, name, image)
            self._segments.start(have)
        if have:
            from .copying import copy

            file = slots.read(plan.slot, name)
            if not (yield from copy(file, 0, have, None, self._sha, self._buffer)):
                raise StoreError("slot-damaged", "the slot is shorter than it was")
        if self._left:
            self._file = slots.write(plan.slot, name, self._left < image.size)
            slot = self._source
            if slot is not None and self._record.slots[slot].holds(image):
                from .copying import copy

                at, self._left, self._copied = image.size - self._left, 0, True
                file = slots.read(slot, name)
                yield from copy(file, at, image.size, self._file, self._sha, self._buffer)
        self._next()

    def _fetched(self) -> "Iterator[None]":
        """An image is there whole: is it the manifest's? Then the next one, or the verification of all."""
        plan, slots = self._plan, self._slots
        if plan is None:
            return
        image = plan.images[self._image]
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
        self._close_segments()
        yield
        copied, self._copied = self._copied, False
        if self._sha.digest() != image.digest:
            if copied:
                # Not the peer's fault: from now on all of it is fetched.
                self._source = None
                slots.remove(plan.slot, slots.names[image.component])
                self._work = self._open()
            else:
                self._discard(plan, image, "image-mismatch")
            return
        self._image += 1
        if self._image < len(plan.images):
            self._work = self._open()
        else:
            self.state = "Verifying"
            self._work = self._verify(plan)

    def _discard(self, plan: "Plan", image: "Image", code: str) -> None:
        """Fetched anew when the manifest comes again, up to three times."""
        self._slots.remove(plan.slot, self._slots.names[image.component])
        self._refuse(code)

    def _refuse(self, code: str) -> None:
        """It brought something else than the manifest says: that counts, and the third time the manifest is refused for good."""
        refused = self._record.mismatched(self.sequence)
        self._end("Rejected" if refused else "Aborted", code)

    def _verify(self, plan: "Plan") -> "Iterator[None]":
        """Read back what the flash kept, then say so in the slot record."""
        from . import readback

        slots, buffer, envelope = self._slots, self._buffer, self._envelope
        done: "list[tuple[int, bytes, bytes]]" = [(0, b"", b"")] * len(slots.names)
        for image in plan.images:
            try:
                entry = yield from readback.check(slots, plan.slot, image, buffer, envelope)
            except PeerError as error:
                self._discard(plan, image, error.code)
                return
            done[image.component] = entry
        self.state = "Installing"
        yield
        for image in plan.images:
            readback.kept(slots, plan.slot, image, buffer, envelope, done[image.component][2])
        self._record.stage(plan.slot, plan.sequence, plan.floor, done, self._grant)
        try:
            slots.activate(plan.slot)
        except PeerError as error:
            self._record.fail(plan.slot)
            self._end("Rejected", error.code)
            return
        self._end("Testing", "")
