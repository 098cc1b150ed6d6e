"""Named records in a log on raw flash: a partition of an ESP32, an external chip, rp2's own flash.

The flash is divided into banks, and one of them holds everything. Changes are appended to it; when
it is full, the current records are copied to the next bank, in a circle, so that all sectors wear
alike, and the full one is erased. Formats: docs/formats.md.

A change is three programs: its head (what follows, and how long), its records, and its mark, four
bytes of which the majority counts. A cut may leave a program in part and in any order, and yet
four states are told apart:

- the mark is there and all fits            the change counts
- the mark is there, something doesn't fit  damage: an error, never the state before it
- no mark, nothing behind the change        it never happened
- anything else that is not erased          damage

What a cut left by half is copied away at the next start: no bit that might read differently
tomorrow stays in use.
"""

from binascii import crc32

from micropython import const

from ..errors import StoreError, ensure
from .flash_scan import BANK, ENTRY, HEAD, MARK, PUT, REMOVED, VERSION, Scan, dirt, lead, sealed

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Sequence

_BUFFER = const(1024)


class FlashStore:
    """device: readblocks and writeblocks with an offset, ioctl 4 (count), 5 (size) and 6 (erase).
    unit: least bytes of one program, a power of two from 16 to 256 (rp2: 256).
    banks: 2 or more; one of them must hold everything twice over.
    """

    def __init__(self, device: "Any", unit: int = 256, banks: int = 2) -> None:
        ensure(
            unit in (16, 32, 64, 128, 256) and banks >= 2,
            "bad-argument",
            "a store on flash has units of 16 to 256 bytes and at least two banks",
        )
        self._device = device
        self.unit = unit
        self.banks = banks
        self.sector: int = device.ioctl(5, 0)
        self._sectors: int = device.ioctl(4, 0)
        self.size = self._sectors // banks * self.sector  # of a bank
        ensure(
            self.sector >= 4 * unit and 0 < self.size < unit * 65536 and self.sector % unit == 0,
            "bad-argument",
            "the flash of the vault has too few sectors, too many, or of an odd size",
        )
        self._ready: "list[bool]" = []  # banks that are known to be erased, their header written
        self._index: "dict[str, tuple[int, int]]" = {}  # name -> (where its bytes are, how many)
        self._cache: "dict[str, bytes]" = {}
        self._bank = self._end = self._sequence = 0
        self._mounted = False

    # -- the interface of every store -----------------------------------------------------------

    def names(self) -> "list[str]":
        """Return the names of all records, in no order."""
        self._mount()
        return list(self._index)

    def read(self, name: str, limit: int) -> "bytes | None":
        """Return a record's bytes, or None. StoreError vault-damaged above `limit`, before
        reading.
        """
        self._mount()
        place = self._index.get(name)
        if place is None:
            return None
        if place[1] > limit:
            raise StoreError("vault-damaged", "a record of the vault is larger than any can be")
        data = self._cache.pop(name, None)
        if data is None:
            data = bytearray(place[1])
            self.fetch(place[0], data)
        return bytes(data)

    def write(self, name: str, data: bytes) -> None:
        """Put the record: at every moment the old or the new bytes are there, whole."""
        self.change([(name, data)], ())

    def remove(self, name: str) -> None:
        """Remove the record; it need not exist."""
        self._mount()
        if name in self._index:
            self.change([], (name,))

    def change(self, puts: "Sequence[tuple[str, bytes]]", removes: "Sequence[str]") -> None:
        """Put and remove all of these or none: the mark decides, after the rest was read back."""
        self._mount()
        self._cache.clear()
        for name, data in puts:
            ensure(0 < len(name.encode()) <= 64, "bad-name", "a record's name has 1 to 64 bytes")
            ensure(len(data) < 65536, "bad-argument", "a record has at most 65535 bytes")
        entries: "list[tuple[str, bytes | None, int]]" = [(name, data, PUT) for name, data in puts]
        kept = [
            name
            for name in self._index
            if name not in removes and not any(name == put[0] for put in puts)
        ]
        moved: "list[tuple[str, bytes | None, int]]" = [(name, None, PUT) for name in kept]
        moved += entries
        if self.unit + self._extent(moved) > self.size:
            raise StoreError("vault-limit", "the flash of the vault is full")
        # An exception leaves flash and RAM apart: then the next call looks again.
        self._mounted = False
        entries += [(name, None, REMOVED) for name in removes if name in self._index]
        if self._bank < 0:
            # An empty change begins a flash: what a cut leaves of it is three units at most, and
            # not taken for a vault that was lost.
            self._move([])
            self._mounted = False
        extent = self._extent(entries)
        if self._bank >= 0:
            # A change that would cross into the next sector begins there: each program stays in
            # one.
            if extent <= self.sector and self._end % self.sector + extent > self.sector:
                self._end += -self._end % self.sector
            if self._end + extent <= self.size and self._attempt(self._bank, self._end, entries):
                self._mounted = True
                return
        self._move(moved)

    def erase_all(self) -> None:
        """Erase every sector, whatever it holds.

        A vault goes in one step: an empty bank takes its place, and makes its own one to erase. So
        a cut leaves all of it, or an erasure that the next start finishes.
        """
        try:
            self._mount()
            self._cache.clear()
            if self._bank >= 0:
                self._mounted = False
                self._move([])
            elif all(self._ready):
                return
        except StoreError:
            pass  # what can't be read or moved is erased all the same
        if not self._mounted or self._bank < 0:
            self._mounted = False
            for sector in range(self._sectors):
                self._erase(sector)

    # -- changing -------------------------------------------------------------------------------

    def _extent(self, entries: "list[tuple[str, bytes | None, int]]") -> int:
        """Return the bytes of a change with these entries, its head and mark included."""
        size = 0
        for entry in entries:
            size += ENTRY + len(entry[0].encode()) + self._length(entry)
        return size + -size % self.unit + 2 * self.unit

    def _length(self, entry: "tuple[str, bytes | None, int]") -> int:
        if entry[1] is not None:
            return len(entry[1])
        return self._index[entry[0]][1] if entry[2] else 0

    def _move(self, moved: "list[tuple[str, bytes | None, int]]") -> None:
        """Write everything into the next bank that takes it, then erase the old one."""
        old = self._bank
        for step in range(1, self.banks + (old < 0)):
            bank = (old + step) % self.banks
            if (self._ready[bank] or self._prepare(bank)) and self._attempt(
                bank, self.unit, moved
            ):
                self._ready[bank] = False
                self._bank = bank
                if old >= 0:
                    self._prepare(old)
                self._mounted = True
                return
        raise StoreError("vault-unwritten", "the flash did not keep the last change")

    def _prepare(self, bank: int) -> bool:
        """Erase a bank and write its header; return False when the flash doesn't keep it."""
        base = bank * self.size
        self._ready[bank] = False
        # Its header goes first, so that a bank erased by half is never taken for one that lost
        # something.
        self.program(base, bytes(self.unit))
        for sector in range(base // self.sector, (base + self.size) // self.sector):
            self._erase(sector)
        if not self._erased(base, self.size):
            # An encrypted partition looks like this too: there nothing tells what is erased from
            # what was lost.
            return False
        self._ready[bank] = self.program(base, self.header(bank))
        return self._ready[bank]

    def header(self, bank: int) -> bytearray:
        """Return the first unit of a bank that was erased whole."""
        sizes = self.unit.to_bytes(2, "big") + (self.size // self.unit).to_bytes(2, "big")
        return sealed(self.unit, BANK + bytes((VERSION, bank, self.banks, 0)) + sizes)

    def _attempt(self, bank: int, at: int, entries: "list[tuple[str, bytes | None, int]]") -> bool:
        """Write a change. False, and nothing has changed, when the flash didn't keep its bytes."""
        base, unit = bank * self.size, self.unit
        check = size = 0
        for entry in entries:
            start = lead(entry[0], entry[2], self._length(entry))
            check = crc32(start, check)
            size += len(start) + self._length(entry)
        size += -size % unit
        # One number for each attempt: a place that was given up must not look like a copy of the
        # one that took its change.
        self._sequence += 1
        head = HEAD + (size // unit).to_bytes(2, "big")
        head += self._sequence.to_bytes(4, "big") + check.to_bytes(4, "big")
        # On its own: it bounds what a cut may leave behind, so that everything beyond is damage.
        if not self.program(base + at, sealed(unit, head)):
            return False
        pen = _Pen(self, base + at + unit, min(size, _BUFFER))
        index: "dict[str, tuple[int, int]]" = {}
        for entry in entries:
            name, data, kind = entry
            length = self._length(entry)
            pen.add(lead(name, kind, length))
            if kind == PUT:
                index[name] = pen.position(), length
                if data is not None:
                    pen.add(data)
                else:
                    pen.copy(self._index[name][0], length)
        if not pen.end():
            return False
        mark = bytearray(b"\xff" * unit)
        mark[:4] = MARK
        if not self.program(base + at + unit + size, mark):
            return False
        for name, _, kind in entries:
            if kind == REMOVED:
                self._index.pop(name, None)
        if at == unit:
            self._index = index
        else:
            self._index.update(index)
        self._end = at + 2 * unit + size
        return True

    # -- reading the log ------------------------------------------------------------------------

    def _mount(self) -> None:
        """Look through all banks, each sector once; finish or undo what a cut interrupted."""
        if self._mounted:
            return
        best: "Scan | None" = None
        foreign = False
        scans = []
        buffer = bytearray(self.sector)
        for bank in range(self.banks):
            scan = Scan(self, bank, buffer)
            scans.append(scan)
            foreign = foreign or scan.foreign
            if scan.sequence > (best.sequence if best else 0):
                best = scan
        self._ready = [scan.ready for scan in scans]
        self._bank, self._sequence, self._index, self._cache = -1, 0, {}, {}
        if best is not None:
            # One number is left out: a torn mark that reads as a whole one some day is not of the
            # same age as what is written now.
            self._bank, self._end, self._sequence = best.bank, best.at, best.sequence + best.torn
            self._index, self._cache = best.index, best.cache
            if best.torn:
                self._cache = {}
                self._move([(name, None, PUT) for name in self._index])
            for scan in scans:
                # What another bank still holds is older: it goes before anything is answered.
                if scan.used and scan is not best and scan.bank != self._bank:
                    self._prepare(scan.bank)
        elif foreign:
            raise StoreError(
                "vault-damaged", "the flash holds what is no vault: erase it before provisioning"
            )
        self._mounted = True

    # -- the flash ------------------------------------------------------------------------------

    def fetch(self, at: int, into: "bytearray | memoryview") -> None:
        view = memoryview(into)
        while len(view):
            sector, offset = divmod(at, self.sector)
            size = min(len(view), self.sector - offset)
            self._done(self._device.readblocks, sector, view[:size], offset)
            view = view[size:]
            at += size

    def program(self, at: int, data: "bytes | bytearray | memoryview") -> bool:
        """Program whole units and read them back; return False when they weren't kept."""
        view = memoryview(data)
        found = bytearray(min(len(view), 256))
        while len(view):
            sector, offset = divmod(at, self.sector)
            size = min(len(view), self.sector - offset)
            self._done(self._device.writeblocks, sector, view[:size], offset)
            for start in range(0, size, len(found)):
                part = memoryview(found)[: min(len(found), size - start)]
                self.fetch(at + start, part)
                if part != view[start : start + len(part)]:
                    return False
            view = view[size:]
            at += size
        return True

    def _erase(self, sector: int) -> None:
        self._done(self._device.ioctl, 6, sector)

    def _done(self, operation: "Any", *arguments: "Any") -> None:
        """Call a driver; a failure is an OSError, False or an error number."""
        try:
            result = operation(*arguments)
        except OSError as error:
            raise StoreError("filesystem", "the flash failed (errno %d)" % (error.errno or 0))
        if result is False or (result is not None and result is not True and result < 0):
            raise StoreError("filesystem", "the flash failed")

    def _erased(self, at: int, size: int) -> bool:
        buffer = bytearray(256)
        for start in range(0, size, len(buffer)):
            self.fetch(at + start, buffer)
            if dirt(buffer):
                return False
        return True


class _Pen:
    """Writes a stream of bytes in programs of whole units."""

    def __init__(self, store: FlashStore, at: int, size: int) -> None:
        self._store = store
        self._at = at
        self._buffer = bytearray(size)
        self._used = 0
        self._good = True

    def position(self) -> int:
        return self._at + self._used

    def add(self, data: "bytes | memoryview") -> None:
        view = memoryview(data)
        while len(view):
            size = min(len(view), len(self._buffer) - self._used)
            self._buffer[self._used : self._used + size] = view[:size]
            self._used += size
            view = view[size:]
            if self._used == len(self._buffer):
                self._flush()

    def copy(self, at: int, size: int) -> None:
        part = memoryview(bytearray(min(size, 256)))
        while size:
            part = part[: min(size, len(part))]
            self._store.fetch(at, part)
            self.add(part)
            at += len(part)
            size -= len(part)

    def end(self) -> bool:
        """Return whether the flash kept all of it."""
        self.add(b"\xff" * (-self._used % self._store.unit))
        self._flush()
        return self._good

    def _flush(self) -> None:
        if self._used and self._good:
            self._good = self._store.program(self._at, memoryview(self._buffer)[: self._used])
        self._at += self._used
        self._used = 0


def make(args: "tuple[Any, ...]") -> FlashStore:
    """Return the store of ("flash", unit, banks, *arguments of block_device())."""
    from .block_device import block_device

    return FlashStore(block_device(*args[2:]), args[0], args[1])
