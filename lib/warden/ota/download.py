"""Takes an update whose manifest was judged (ota/order.py): its chunks go into the slot that does not run, and are hashed as they come. Sans-IO: bytes and times
go in, states and requests come out; the slots are given.

    updater.take(order, now_ms)
    while updater.step(): …                  the work between two messages, a few KB a call, so that a watchdog can be fed
    updater.want()                           the one chunk that is asked for: (number, component, offset, length)
    updater.chunk(number, data, now_ms)
    updater.state, updater.reason
    ReadBack(*updater.hand_over())           all of it came: ota/verify.py goes on, and this module may go

States: Idle, Downloading, Verifying (that was all), Rejected (the update is bad), Aborted (it may be tried again).

A download that was cut goes on at the length that the filesystem kept, hashed again from zero. One buffer, while the flash is read; chunks are views of their message.
"""

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError, WardenError
from .slots import SlotRecord, named

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ..vault import Vault
    from ..wire.suit_plan import Plan
    from .order import Order
    from .payload import Segments

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
_ENOSPC = const(28)


class Updater:
    """vault: open. running: the slot that runs, None for neither. chunk: bytes asked for at a time, at most 1,024."""

    def __init__(
        self,
        vault: "Vault",
        slots: "Slots",
        running: "int | None",
        chunk: int = CHUNK_MAX,
    ) -> None:
        self._vault = vault
        self._record = SlotRecord(vault)
        self._slots = slots
        self._chunk = min(chunk, CHUNK_MAX)
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

    def take(self, order: "Order", now_ms: int) -> None:
        """An order that was judged. StoreError: nothing of it is under way; PeerError update-state: another one is."""
        from .opening import take

        take(self, order, now_ms)

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
                # Until the end of the image, its memory is the chunks'.
                unload("warden.ota.opening")
                unload("warden.ota.reuse")
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

    def source(self) -> "tuple[bytes, int]":
        """(the address that the manifest gives for the image that is coming, how many bytes lie there). While want() wants something."""
        if self._plan is None:
            raise LinkError("update-state", "no update is under way")
        image = self._plan.images[self._image]
        return image.uri, image.size if self._segments is None else self._segments.total()

    def chunk(self, number: int, data: "bytes | memoryview", now_ms: int) -> None:
        """PeerError update-chunk for any other chunk than the one that was asked for: nothing changed then."""
        # Nine tenths of the time that a chunk takes are to be its hash and its way to the flash: nothing is called or made here that can wait.
        wanted = self._wanted
        if not wanted:
            raise LinkError("update-state", "no chunk is wanted now")
        if len(data) != wanted or number != self._number:
            raise LinkError("update-chunk", "not the chunk that was asked for")
        try:
            if self._segments is not None:
                data = self._open_segment(data)
                wanted = len(data)
            if self._file.write(data) != wanted:
                raise OSError(_ENOSPC)
            self._left = left = self._left - wanted
            self._number = number + 1
            self._came = now_ms
            if left < self._edge:
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
            from .opening import fetched

            self._work = fetched(self)

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

    def hand_over(self) -> "tuple[SlotRecord, Slots, Plan, Any, bool]":
        """All of it came, the state is Verifying: what readback.ReadBack takes. This object is done."""
        from .opening import hand_over

        return hand_over(self)

    def abort(self) -> None:
        """What is there stays, for the same manifest to go on."""
        if self._plan is None:
            raise LinkError("update-state", "no update is under way")
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
            from ..crypto import ct

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
        found = named(error)
        self._end("Aborted", found.code)
        return found

    def _refuse(self, code: str) -> None:
        """It brought something else than the manifest says: that counts, and the third time the manifest is refused for good."""
        refused = self._record.mismatched(self.sequence)
        self._end("Rejected" if refused else "Aborted", code)
