"""Named records as blobs of one namespace of an ESP32's NVS, for boards without a partition to
spare.

NVS names its keys with at most 15 characters and keeps each of them old-or-new, so a record gets a
numbered slot: `wSSC` is chunk C of slot SS. Chunk 0 names the record and comes last; it makes the
others count. A record is replaced by one in another slot with a higher sequence, then the old slot
is emptied, its chunk 0 first. Formats: docs/formats.md.

NVS finds flipped bits and torn writes, and drops what they hit: a record can vanish (the vault
notices), never become an older one.
"""

from binascii import crc32

from micropython import const

from ..errors import StoreError, ensure
from .store_steps import StepStore

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_VERSION = const(1)
# 64 records, as many again while all are being replaced, the key and the commit.
_SLOTS = const(144)
_CHUNK = const(1536)  # bytes of a record in one blob; every NVS takes 1984
_CHUNKS = const(3)
_HEADER = const(12)
_NAME = const(64)
_MARK = const("key")  # says that a wipe is under way (warden.vault.wipe)
_FILLER = const("wf%d")
_FILLERS = const(65536)  # of 32 bytes: two megabytes, more than any NVS
_RESERVE = const("wr%d")
_RESERVES = const(10)  # blobs; together a record and the commit beside the old ones
_PIECE = const(480)  # bytes of one: fifteen entries of NVS, and its head
_NOT_FOUND = const(-4354)  # ESP_ERR_NVS_NOT_FOUND
_NO_SPACE = const(-4357)  # ESP_ERR_NVS_NOT_ENOUGH_SPACE


class NvsStore(StepStore):
    """namespace: at most 15 characters. nvs: an object like esp32.NVS, made here when absent."""

    def __init__(self, namespace: str, nvs: "Any" = None) -> None:
        if nvs is None:
            import esp32

            nvs = esp32.NVS(namespace)
        self._nvs: "Any" = nvs
        self._index: "dict[str, tuple[int, int]]" = {}  # name -> (slot, bytes of the record)
        self._free: "list[int]" = []
        self._sequence = 0
        self._mounted = False

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
        slot, size = place
        if size > limit:
            raise StoreError("vault-damaged", "a record of the vault is larger than any can be")
        buffer = bytearray(_HEADER + _NAME + _CHUNK)
        first = self._get(slot, 0, buffer)
        head = _head(buffer, first)
        if head is None or head[0] != name or head[2] != size:
            raise StoreError("vault-damaged", "a record of the vault was changed")
        start = _HEADER + len(name.encode())
        data = bytes(buffer[start:first])
        tie = bytes(buffer[4:8])
        for chunk in range(1, -(-size // _CHUNK)):
            got = self._get(slot, chunk, buffer)
            if buffer[:4] != tie:
                break
            # One that is missing or too short adds another number of bytes than the record has.
            data += bytes(buffer[4:got])
        if len(data) != size:
            raise StoreError("vault-damaged", "a record of the vault was cut short")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put the record: at every moment the old or the new bytes are there, whole."""
        self._mount()
        raw, size = name.encode(), len(data)
        ensure(0 < len(raw) <= _NAME, "bad-name", "a record's name has 1 to 64 bytes")
        ensure(size <= _CHUNK * _CHUNKS, "bad-argument", "a record has at most 4608 bytes")
        if not self._free:
            raise StoreError("vault-limit", "the NVS of the vault is full")
        # An exception leaves flash and RAM apart: then the next call looks again.
        self._mounted = False
        slot = self._free.pop()
        sequence = self._sequence + 1
        tie = sequence.to_bytes(4, "big")
        # What a cut left of another record in this slot goes, or is replaced.
        for chunk in range(_CHUNKS - 1, 0, -1):
            part = data[chunk * _CHUNK : (chunk + 1) * _CHUNK]
            if part:
                self._done(self._nvs.set_blob, _key(slot, chunk), tie + part)
            else:
                self._erase(slot, chunk)
        if size > _CHUNK:
            self._done(self._nvs.commit)
        head = bytes((_VERSION, len(raw))) + size.to_bytes(2, "big") + tie
        head += crc32(raw, crc32(head)).to_bytes(4, "big")
        self._done(self._nvs.set_blob, _key(slot, 0), head + raw + data[:_CHUNK])
        self._done(self._nvs.commit)
        old = self._index.get(name)
        self._index[name] = slot, size
        self._sequence = sequence
        if old is not None:
            self._clear(old[0])
        self._mounted = True

    def remove(self, name: str) -> None:
        """Remove the record; it need not exist."""
        self._mount()
        place = self._index.get(name)
        if place is not None:
            self._mounted = False
            self._clear(place[0])
            del self._index[name]
            self._mounted = True

    def give_reserve(self) -> bool:
        given = False
        for number in range(_RESERVES):
            given = self._done(self._nvs.erase_key, _RESERVE % number) != -1 or given
        self._done(self._nvs.commit)
        return given

    def keep_reserve(self) -> None:
        """Keep room for the next change in blobs of the namespace."""
        blank = bytearray(_PIECE)
        try:
            for number in range(_RESERVES):
                if self._done(self._nvs.get_blob, _RESERVE % number, blank) < 0:
                    self._done(self._nvs.set_blob, _RESERVE % number, blank)
            self._done(self._nvs.commit)
        except StoreError as error:
            if error.code != "vault-limit":
                raise

    def erase_all(self) -> None:
        """Erase every blob of ours, and what was replaced before. The mark of a wipe goes last."""
        mark = -1
        try:
            self._mount()
            mark = self._index.get(_MARK, (-1,))[0]
        except StoreError as error:
            if error.code != "vault-damaged":
                raise  # what can't be read is erased all the same
        self._mounted = False
        for slot in range(_SLOTS):
            if slot != mark:
                self._empty(slot)
        self.give_reserve()
        self._fill()
        if mark >= 0:
            self._empty(mark)
            self._done(self._nvs.commit)

    def _fill(self) -> None:
        """Make NVS erase the pages of what was removed.

        It only marks an entry as erased; its bytes stay until their page is needed. Entries of one
        unit,
        until there is no room for another, make it need every page that holds anything but live
        entries: it copies those away and erases the page (ESP-IDF, PageManager::requestNewPage).
        """
        for number in range(_FILLERS):
            try:
                self._done(self._nvs.set_i32, _FILLER % number, 0)
            except StoreError as error:
                if error.code != "vault-limit":
                    raise
                break
        self._done(self._nvs.commit)
        # Those of a wipe that was cut come first: they bear the first numbers.
        number = 0
        while self._done(self._nvs.erase_key, _FILLER % number) != -1:
            number += 1
        self._done(self._nvs.commit)

    # -- inside -------------------------------------------------------------------------------

    def _mount(self) -> None:
        """Read the first chunk of each slot; of two with one name the later counts."""
        if self._mounted:
            return
        self._index, self._free, self._sequence = {}, [], 0
        sequences: "dict[str, int]" = {}
        buffer = bytearray(_HEADER + _NAME + _CHUNK)
        for slot in range(_SLOTS - 1, -1, -1):
            length = self._get(slot, 0, buffer)
            if length < 0:
                self._free.append(slot)
                continue
            head = _head(buffer, length)
            if head is None:
                raise StoreError("vault-damaged", "the NVS of the vault was changed")
            name, sequence, size = head
            self._sequence = max(self._sequence, sequence)
            if name in self._index:
                older = slot
                if sequence > sequences[name]:
                    older = self._index[name][0]
                self._clear(older)
                if older == slot:
                    continue
            self._index[name] = slot, size
            sequences[name] = sequence
        self._mounted = True

    def _clear(self, slot: int) -> None:
        """Empty a slot; without its first chunk the others are nothing."""
        self._erase(slot, 0)
        self._done(self._nvs.commit)
        for chunk in range(1, _CHUNKS):
            self._erase(slot, chunk)
        self._done(self._nvs.commit)
        self._free.append(slot)

    def _empty(self, slot: int) -> None:
        for chunk in range(_CHUNKS):
            self._erase(slot, chunk)

    def _get(self, slot: int, chunk: int, buffer: bytearray) -> int:
        """Return the bytes of a chunk, -1 when there is none."""
        return self._done(self._nvs.get_blob, _key(slot, chunk), buffer)

    def _erase(self, slot: int, chunk: int) -> None:
        self._done(self._nvs.erase_key, _key(slot, chunk))

    def _done(self, operation: "Any", *arguments: "Any") -> int:
        """Return the result of a call, -1 when there is no such key."""
        try:
            return operation(*arguments)
        except OSError as error:
            code = error.args[0] if error.args else 0
            if code == _NOT_FOUND:
                return -1
            if code == _NO_SPACE:
                raise StoreError("vault-limit", "the NVS of the vault is full")
            raise StoreError("filesystem", "the NVS failed (error %d)" % code)


def _key(slot: int, chunk: int) -> str:
    return "w%02x%d" % (slot, chunk)


def _head(buffer: bytearray, length: int) -> "tuple[str, int, int] | None":
    """Return (name, sequence, bytes of the record) of a first chunk, or None when it is none."""
    if buffer[0] != _VERSION:
        return None
    size = int.from_bytes(buffer[2:4], "big")
    raw = bytes(buffer[_HEADER : _HEADER + buffer[1]])
    if int.from_bytes(buffer[8:12], "big") != crc32(raw, crc32(bytes(buffer[:8]))):
        return None
    if length != _HEADER + len(raw) + min(size, _CHUNK):
        return None
    try:
        name = str(raw, "utf-8")
    except UnicodeError:
        return None
    return name, int.from_bytes(buffer[4:8], "big"), size


def make(args: "tuple[str]") -> NvsStore:
    """Return the store of ("nvs", namespace)."""
    store = NvsStore(args[0])
    store.keep_reserve()
    return store
