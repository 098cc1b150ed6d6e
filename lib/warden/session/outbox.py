"""Events that wait until their applications have them, in one buffer of a fixed size. Sans-IO.

An event is numbered for good, and kept until each application that it is for has acknowledged it.
What does not fit displaces the oldest event, or is not accepted, as the policy says. The format of
the buffer is also that of the saved outbox (docs/formats.md):

number (4) | applications that still lack it, a bit each (1) | size of the name (1) | size of the
body (2) | name | body in CBOR

Numbers are big-endian, and rise from event to event.
"""

from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable, Iterator

_HEAD = const(8)
_SHARE = const(128)  # bytes of the buffer for each event that the policy allows
NUMBER_MAX = (1 << 32) - 1


class Entry:
    """An event in the outbox. name, body: views that the next change of the outbox invalidates."""

    def __init__(self, buffer: memoryview, at: int) -> None:
        self.number = int.from_bytes(buffer[at : at + 4], "big")
        self.lacking = buffer[at + 4]
        start = at + _HEAD
        middle = start + buffer[at + 5]
        self.end = middle + (buffer[at + 6] << 8 | buffer[at + 7])
        self.at = at
        self.name = buffer[start:middle]
        self.body = buffer[middle : self.end]


class Outbox:
    """At most `most` events, in 128 bytes for each of them, and room for one of `largest` bytes.

    drop_oldest: whether a new event displaces the oldest one, or is itself dropped. on_end(number,
    delivered): called with each event that leaves: all have it, or it was displaced.
    """

    def __init__(
        self,
        most: int,
        largest: int,
        drop_oldest: bool,
        on_end: "Callable[[int, bool], None]",
    ) -> None:
        self._most = most
        self._drop_oldest = drop_oldest
        self._on_end = on_end
        self._buffer = memoryview(bytearray(max(most * _SHARE, largest + _HEAD)))
        self._used = 0
        self.count = 0

    def entries(self) -> "Iterator[Entry]":
        """Yield the events in their order. The outbox must not change meanwhile."""
        at = 0
        while at < self._used:
            entry = Entry(self._buffer, at)
            yield entry
            at = entry.end

    def add(
        self, number: int, lacking: int, name: bytes, body: "bytes | bytearray", served: int = 0
    ) -> bool:
        """Append an event, and return whether it was accepted.

        number: above all before. lacking: a bit for each application that it is for. body: CBOR,
        at most as large as `largest` with the name. served: bits of the applications that are
        there: an event that lacks none of them makes room first, whatever the policy says, so that
        an application that stays away stops no other.
        """
        size = _HEAD + len(name) + len(body)
        while self.count >= self._most or self._used + size > len(self._buffer):
            oldest = None
            for entry in self.entries():
                if served and not entry.lacking & served:
                    oldest = entry
                    break
            if oldest is None:
                if not self._drop_oldest or not self.count:
                    return False
                oldest = Entry(self._buffer, 0)
            self._remove(oldest)
            self._on_end(oldest.number, False)
        buffer, at = self._buffer, self._used
        buffer[at : at + 4] = number.to_bytes(4, "big")
        buffer[at + 4], buffer[at + 5] = lacking, len(name)
        buffer[at + 6], buffer[at + 7] = len(body) >> 8, len(body) & 255
        at += _HEAD
        buffer[at : at + len(name)] = name
        buffer[at + len(name) : self._used + size] = body
        self._used += size
        self.count += 1
        return True

    def acknowledge(self, bit: int, number: int) -> bool:
        """Note that an application has all events up to this number; return whether that is new.

        bit: the application's.
        """
        found, at = False, 0
        while at < self._used:
            entry = Entry(self._buffer, at)
            if entry.number > number:
                break
            at = entry.end
            if not entry.lacking & bit:
                continue
            found = True
            self._buffer[entry.at + 4] = entry.lacking & ~bit
            if entry.lacking == bit:
                at = entry.at
                self._remove(entry)
                self._on_end(entry.number, True)
        return found

    def replace_bits(self, pairs: "list[tuple[int, int]]") -> None:
        """Give the applications other bits. pairs: (old, new); one without a pair was removed.

        What only such an application lacks leaves: all others have it.
        """
        at = 0
        while at < self._used:
            entry, lacking = Entry(self._buffer, at), 0
            for old, new in pairs:
                if entry.lacking & old:
                    lacking |= new
            self._buffer[at + 4] = lacking
            if lacking:
                at = entry.end
            else:
                self._remove(entry)
                self._on_end(entry.number, True)

    def _remove(self, entry: Entry) -> None:
        size = entry.end - entry.at
        # Forwards, in place: the parts may overlap.
        self._buffer[entry.at : self._used - size] = self._buffer[entry.end : self._used]
        self._used -= size
        self.count -= 1

    # -- saved over a restart -----------------------------------------------------------------

    def saved(self) -> memoryview:
        """Return the events as load() takes them: a view that the next change invalidates."""
        return self._buffer[: self._used]

    def load(self, data: "bytes | bytearray", last: int) -> None:
        """Take saved events in the place of those there, as far as they fit; the newest stay.

        last: the highest number that may be in use. StoreError vault-damaged for what saved()
        does not write.
        """
        view = memoryview(data)
        at = number = 0
        while at < len(view):
            if len(view) - at < _HEAD:
                raise StoreError("vault-damaged", "the saved outbox is cut short")
            entry = Entry(view, at)
            if entry.end > len(view) or not number < entry.number <= last or not entry.lacking:
                raise StoreError("vault-damaged", "the saved outbox makes no sense")
            number, at = entry.number, entry.end
        # A policy that allows less than before: the oldest go.
        at = self._used = self.count = 0
        while at < len(view):
            entry = Entry(view, at)
            at = entry.end
            size = entry.end - entry.at
            while self.count and (
                self.count >= self._most or self._used + size > len(self._buffer)
            ):
                oldest = Entry(self._buffer, 0)
                self._remove(oldest)
                self._on_end(oldest.number, False)
            if size <= len(self._buffer):
                self._buffer[self._used : self._used + size] = view[entry.at : entry.end]
                self._used += size
                self.count += 1
