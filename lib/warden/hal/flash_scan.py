"""The format of a log on raw flash, and the search for what it holds.

store_flash.py writes it; docs/formats.md has each byte.
"""

from binascii import crc32

from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .store_flash import FlashStore

BANK = b"WdnB"
HEAD = b"Wd"
MARK = b"\x00\x00\x00\x00"
VERSION = 1
REMOVED = 0  # the kinds of an entry
PUT = 1
ENTRY = 4  # bytes of an entry before its name
# Bytes of a bank's header and of a change's head; the rest of their units stays erased.
_HEADER = const(16)
# So many bytes that lost a bit while they were erased are no change that got lost.
_STRAY = const(2)
_CACHE = const(8192)  # bytes of small records that a start keeps until the vault asked for them
_BLANK = b"\xff" * 256


class Scan:
    """The content of a bank, read from front to back, each sector once."""

    def __init__(self, store: "FlashStore", bank: int, buffer: bytearray) -> None:
        self.bank = bank
        self.ready = self.foreign = self.torn = self.used = False
        self.sequence = 0
        self.at = store.unit  # where the next change belongs
        self.index: "dict[str, tuple[int, int]]" = {}
        # Small records are handed out once without being read again: the vault asks for all of
        # them when it opens.
        self.cache: "dict[str, bytes]" = {}
        self._room = _CACHE
        self._store = store
        self._base = bank * store.size
        self._buffer = buffer
        self._loaded = -1
        header = self._read(0, _HEADER)
        if header[:4] != BANK or not _is_sealed(header):
            # What a cut leaves of a bank's beginning is small (FlashStore.change()): only then may
            # there be no vault at all.
            self.used = self._dirt(0, 3 * store.unit) > 0
            rest = self._dirt(3 * store.unit, store.size)
            self.foreign = rest > _STRAY
            self.used = self.used or rest > 0
            return
        if header != store.header(bank)[:_HEADER]:
            raise StoreError(
                "vault-damaged", "the flash was divided otherwise, or by another version of Warden"
            )
        while self._next():
            pass
        self.used = self.torn or self.sequence > 0
        self.ready = not self.used

    def _next(self) -> bool:
        """Read the next change; return False when there is none."""
        store, unit, at, stray = self._store, self._store.unit, self.at, 0
        head = self._read(at, _HEADER) if at + 2 * unit <= store.size else b""
        border = at + -at % store.sector
        if not _is_head(head) and at < border <= store.size - 2 * unit:
            # A change that would have crossed the border begins behind it.
            stray = self._dirt(at, border)
            if stray <= _STRAY:
                at = border
                head = self._read(at, _HEADER)
        if not _is_head(head):
            # A head that was cut is all that may lie here: behind it nothing was programmed yet.
            first = self._dirt(at, min(at + unit, store.size))
            self._check_rest(at + unit, first)
            self.torn = self.torn or first + stray > 0
            return False
        self.torn = self.torn or stray > 0
        body = at + unit
        mark = body + int.from_bytes(head[2:4], "big") * unit
        sequence = int.from_bytes(head[4:8], "big")
        if mark + unit > store.size or (self.sequence and sequence != self.sequence + 1):
            raise _damage()
        check = int.from_bytes(head[8:12], "big")
        found = self._entries(body, mark, check)
        programmed = self._read(mark, len(MARK))
        if self._dirt(mark + len(MARK), mark + unit) > _STRAY:
            raise _damage()
        if zeros(programmed) <= 16:
            # It never happened. Nothing was written behind it, or it did happen and lost its mark.
            self._check_rest(mark + unit, 0)
            self.torn = True
            return False
        if found is None:
            raise _damage()
        if programmed != MARK:
            self.torn = True
        for name, place, data in found:
            self._room += len(self.cache.pop(name, b""))
            if place is None:
                self.index.pop(name, None)
                continue
            self.index[name] = place
            if data is not None:  # _entries() kept within the room
                self.cache[name] = data
                self._room -= len(data)
        self.sequence = sequence
        self.at = mark + unit
        return True

    def _entries(
        self, at: int, end: int, check: int
    ) -> "list[tuple[str, tuple[int, int] | None, bytes | None]] | None":
        """Return what a change puts and removes, or None when it does not fit its head."""
        found: "list[tuple[str, tuple[int, int] | None, bytes | None]]" = []
        room, computed = self._room, 0
        while at + ENTRY <= end:
            start = self._read(at, ENTRY)
            if start[0] > PUT:
                break  # what fills the last unit
            size = int.from_bytes(start[2:], "big")
            at += ENTRY + start[1]
            if at + size > end:
                return None
            raw = self._read(at - start[1], start[1])
            computed = crc32(raw, crc32(start, computed))
            try:
                name = str(raw, "utf-8")
            except UnicodeError:
                return None
            if start[0] == REMOVED:
                found.append((name, None, None))
                continue
            data = None
            if size <= room:
                data = self._read(at, size)
                room -= size
            found.append((name, (self._base + at, size), data))
            at += size
        return found if computed == check else None

    def _check_rest(self, at: int, dirt: int) -> None:
        """Check that all is erased behind the last change, save a lost bit or two."""
        rest = self._dirt(at, self._store.size)
        if rest:
            self.torn = True
            if rest + dirt > _STRAY:
                raise _damage()

    def _load(self, at: int) -> int:
        """Make the sector of this place the one in the buffer; the offset in it."""
        sector, offset = divmod(self._base + at, self._store.sector)
        if sector != self._loaded:
            self._loaded = -1
            self._store.fetch(sector * self._store.sector, self._buffer)
            self._loaded = sector
        return offset

    def _read(self, at: int, size: int) -> bytes:
        taken = bytearray(size)
        done = 0
        while done < size:
            offset = self._load(at + done)
            part = memoryview(self._buffer)[offset : offset + size - done]
            taken[done : done + len(part)] = part
            done += len(part)
        return bytes(taken)

    def _dirt(self, at: int, end: int) -> int:
        found = 0
        while at < end:
            offset = self._load(at)
            part = memoryview(self._buffer)[offset : offset + min(end - at, 256)]
            found += dirt(part)
            at += len(part)
        return found


def _damage() -> StoreError:
    return StoreError("vault-damaged", "the flash of the vault was changed")


def dirt(part: "bytearray | memoryview") -> int:
    """Return how many bytes are not erased."""
    if part == _BLANK[: len(part)]:
        return 0
    found = 0
    for byte in part:
        found += byte != 255
    return found


def zeros(mark: bytes) -> int:
    """Return the number of programmed bits."""
    found = 0
    for byte in mark:
        for bit in range(8):
            found += not byte >> bit & 1
    return found


def lead(name: str, kind: int, size: int) -> bytes:
    raw = name.encode()
    return bytes((kind, len(raw))) + size.to_bytes(2, "big") + raw


def sealed(unit: int, fields: bytes) -> bytearray:
    """Return a unit that begins with these twelve bytes and their CRC."""
    record = bytearray(b"\xff" * unit)
    record[:12] = fields
    record[12:_HEADER] = crc32(fields).to_bytes(4, "big")
    return record


def _is_sealed(record: bytes) -> bool:
    return crc32(record[:12]) == int.from_bytes(record[12:_HEADER], "big")


def _is_head(record: bytes) -> bool:
    return record[:2] == HEAD and _is_sealed(record)
