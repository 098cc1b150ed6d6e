"""An application image, mounted read-only: ROMFS (the format of `mpremote romfs build`) whose every block is checked as it is read.

The image is cut into blocks of 4,096 bytes. A map beside it holds the SHA-256 of each; the pages of the map, of 128 hashes each, are hashed again, and
the root over those is in the slot record, which the root key authenticates. So what was verified when it was installed is what runs, and a start
need not read it all. What is served comes out of the buffer that was hashed, never out of a second read.

ROMFS, from MicroPython's documentation of the format: records of (kind, length, payload), both numbers in base 128, the most significant
digit first with bit 7 set on all but the last. The image is one record of the kind 0x14a6b1; 2: data; 3: (length, offset) of data; 4: directory and
5: file, each a name and then records; everything else is skipped.
"""

import hashlib
import io

from micropython import const

from .errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Union

    Buffer = Union[bytes, bytearray, memoryview]

BLOCK = 4096

_HASH = const(32)
_PAGE = const(4096)  # 128 hashes
_MOST_PAGES = const(64)  # of an image of 32 MB

_HEADER = const(b"\xd2\xcd\x31")
_DATA = const(2)
_POINTER = const(3)
_DIRECTORY = const(4)
_FILE = const(5)
_IS_DIRECTORY = const(0x4000)
_IS_FILE = const(0x8000)
_ENOENT = const(2)
_EINVAL = const(22)
_EROFS = const(30)


class Root:
    """Makes the root of an image of `size` bytes out of the hashes of its blocks, in their order."""

    def __init__(self, size: int) -> None:
        self._all = hashlib.sha256(b"warden slot 1" + size.to_bytes(8, "big"))
        self._page = hashlib.sha256()
        self._count = 0

    def add(self, leaf: "Buffer") -> None:
        self._page.update(leaf)
        self._count += 1
        if self._count % (_PAGE // _HASH) == 0:
            self._turn()

    def _turn(self) -> None:
        self._all.update(self._page.digest())
        self._page = hashlib.sha256()

    def digest(self) -> bytes:
        if self._count % (_PAGE // _HASH):
            self._turn()
        return self._all.digest()


class Image:
    """The bytes of an image, verified. file, map_file: open for reading, and kept so. on_damage() is told before the error is raised."""

    def __init__(
        self,
        file: "Any",
        map_file: "Any",
        size: int,
        root: bytes,
        on_damage: "Callable[[], None] | None" = None,
    ) -> None:
        """StoreError slot-damaged when the map is not the one that was verified."""
        self._file = file
        self._map = map_file
        self.size = size
        self._on_damage = on_damage
        hashes = (size + BLOCK - 1) // BLOCK * _HASH
        if not 0 < size <= _MOST_PAGES * (_PAGE // _HASH) * BLOCK:
            raise StoreError("slot-damaged", "an image of an impossible size")
        self._page = bytearray(min(hashes, _PAGE))
        self._buffer = bytearray(min(size, BLOCK))
        self._loaded = -1
        self._pages = []
        whole = hashlib.sha256(b"warden slot 1" + size.to_bytes(8, "big"))
        for at in range(0, hashes, _PAGE):
            self._pages.append(self._read(map_file, at, self._page, min(_PAGE, hashes - at)))
            whole.update(self._pages[-1])
        if whole.digest() != root:
            raise StoreError("slot-damaged", "the hashes of the slot's blocks were changed")
        self._hashes = hashes
        self._at_page = len(self._pages) - 1

    def _read(self, file: "Any", at: int, buffer: bytearray, size: int) -> bytes:
        """Fill the buffer from the flash; the hash of what is in it now."""
        view = memoryview(buffer)[:size]
        file.seek(at)
        if file.readinto(view) != size:
            raise StoreError("slot-damaged", "the slot is cut short")
        return hashlib.sha256(view).digest()

    def _load(self, number: int) -> None:
        try:
            page, place = divmod(number, _PAGE // _HASH)
            if page != self._at_page:
                self._at_page = -1
                size = min(_PAGE, self._hashes - page * _PAGE)
                if self._read(self._map, page * _PAGE, self._page, size) != self._pages[page]:
                    raise StoreError(
                        "slot-damaged", "the hashes of the slot's blocks were changed"
                    )
                self._at_page = page
            self._loaded = -1
            size = min(BLOCK, self.size - number * BLOCK)
            digest = self._read(self._file, number * BLOCK, self._buffer, size)
            if digest != memoryview(self._page)[place * _HASH : (place + 1) * _HASH]:
                raise StoreError(
                    "slot-damaged", "a block of the slot was changed after it was verified"
                )
        except (StoreError, OSError):
            # A block that can't be read is worth as much as one that was changed: the application would fail at it at each start.
            if self._on_damage is not None:
                self._on_damage()
            raise
        self._loaded = number

    def byte(self, at: int) -> int:
        if at >= self.size:
            raise StoreError("slot-damaged", "a record reaches beyond the image")
        if at // BLOCK != self._loaded:
            self._load(at // BLOCK)
        return self._buffer[at % BLOCK]

    def readinto(self, at: int, view: memoryview) -> int:
        """Copy what stands there, up to the end of its block: how many bytes that is."""
        if at >= self.size or not len(view):
            return 0
        if at // BLOCK != self._loaded:
            self._load(at // BLOCK)
        start = at % BLOCK
        count = min(len(view), BLOCK - start, self.size - at)
        view[:count] = memoryview(self._buffer)[start : start + count]
        return count

    def close(self) -> None:
        self._file.close()
        self._map.close()


class RomFS:
    """For vfs.mount(). StoreError slot-damaged when the image is no ROMFS."""

    def __init__(self, image: Image) -> None:
        self._image = image
        kind = bytes([image.byte(at) for at in range(min(3, image.size))])
        length, start = self._number(3)
        if kind != _HEADER or start + length > image.size:
            raise StoreError("slot-damaged", "the image is no ROMFS")
        self._root = (start, start + length)
        self._folder = ""

    # -- records ------------------------------------------------------------------------------

    def _number(self, at: int) -> "tuple[int, int]":
        """(the number, where it ends)."""
        value = 0
        for place in range(at, at + 5):
            digit = self._image.byte(place)
            value = value << 7 | digit & 127
            if digit < 128:
                return value, place + 1
        raise StoreError("slot-damaged", "a number that does not end")

    def _records(self, at: int, end: int) -> "Iterator[tuple[int, int, int]]":
        """(kind, start, end) of each record between the two places."""
        while at < end:
            kind, at = self._number(at)
            length, at = self._number(at)
            if at + length > end:
                raise StoreError("slot-damaged", "a record reaches beyond its place")
            yield kind, at, at + length
            at += length

    def _name(self, at: int) -> "tuple[bytes, int]":
        length, at = self._number(at)
        if length > 255:
            raise StoreError("slot-damaged", "a name that is too long")
        return bytes([self._image.byte(place) for place in range(at, at + length)]), at + length

    def _find(self, path: str) -> "tuple[bool, int, int]":
        """(is it a directory, start, end), both of the records or of the data. OSError ENOENT."""
        if not path.startswith("/"):
            path = self._folder + "/" + path
        start, end = self._root
        is_directory = True
        for part in path.encode().split(b"/"):
            if part in (b"", b"."):
                continue
            found = None
            for kind, at, stop in self._records(start, end) if is_directory else ():
                if kind in (_DIRECTORY, _FILE):
                    name, inside = self._name(at)
                    if name == part:
                        found = (kind == _DIRECTORY, inside, stop)
                        break
            if found is None:
                raise OSError(_ENOENT)
            is_directory, start, end = found
        if is_directory:
            return True, start, end
        start, end = self._data(start, end)
        return False, start, end

    def _data(self, start: int, end: int) -> "tuple[int, int]":
        for kind, at, stop in self._records(start, end):
            if kind == _DATA:
                return at, stop
            if kind == _POINTER:
                length, at = self._number(at)
                offset, _ = self._number(at)
                return offset, offset + length
        return end, end

    # -- what MicroPython asks of a filesystem ------------------------------------------------

    def mount(self, readonly: bool, mkfs: bool) -> None:
        if mkfs:
            raise OSError(_EROFS)

    def umount(self) -> None:
        self._image.close()

    def stat(self, path: str) -> "tuple[int, ...]":
        is_directory, start, end = self._find(path)
        if is_directory:
            return (_IS_DIRECTORY, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return (_IS_FILE, 0, 0, 0, 0, 0, end - start, 0, 0, 0)

    def statvfs(self, path: str) -> "tuple[int, ...]":
        blocks = (self._image.size + BLOCK - 1) // BLOCK
        return (BLOCK, BLOCK, blocks, 0, 0, 0, 0, 0, 1, 255)

    def ilistdir(self, path: str) -> "Iterator[tuple[str, int, int, int]]":
        is_directory, start, end = self._find(path)
        if not is_directory:
            raise OSError(_ENOENT)
        for kind, at, stop in self._records(start, end):
            if kind in (_DIRECTORY, _FILE):
                name, inside = self._name(at)
                if kind == _DIRECTORY:
                    yield name.decode(), _IS_DIRECTORY, 0, 0
                else:
                    first, last = self._data(inside, stop)
                    yield name.decode(), _IS_FILE, 0, last - first

    def chdir(self, path: str) -> None:
        if not self._find(path)[0]:
            raise OSError(_ENOENT)
        self._folder = path.rstrip("/") if path.startswith("/") else self._folder + "/" + path

    def getcwd(self) -> str:
        return self._folder or "/"

    def open(self, path: str, mode: str) -> "File":
        if "w" in mode or "a" in mode or "+" in mode or "x" in mode:
            raise OSError(_EROFS)
        is_directory, start, end = self._find(path)
        if is_directory:
            raise OSError(_ENOENT)
        return File(self._image, start, end, "b" in mode)


class File(io.IOBase):
    """A file of the image. As IOBase, the firmware can import from it; the methods are for the application."""

    def __init__(self, image: Image, start: int, end: int, binary: bool) -> None:
        self._image = image
        self._start = self._at = start
        self._end = end
        self._binary = binary

    def readinto(self, buffer: "Any") -> int:
        view = memoryview(buffer)[: self._end - self._at]
        done = 0
        while done < len(view):
            count = self._image.readinto(self._at, view[done:])
            if not count:
                raise StoreError("slot-damaged", "a file reaches beyond the image")
            self._at += count
            done += count
        return done

    def ioctl(self, request: int, argument: int) -> int:
        if request == 11:  # the size of the buffer that an import should use
            return 256
        return 0 if request == 4 else -_EINVAL

    def read(self, size: int = -1) -> "Any":
        left = self._end - self._at
        data = bytearray(left if size < 0 else min(size, left))
        self.readinto(data)
        return bytes(data) if self._binary else data.decode()

    def readline(self) -> "Any":
        line = bytearray()
        while self._at < self._end and not line.endswith(b"\n"):
            line.append(self._image.byte(self._at))
            self._at += 1
        return bytes(line) if self._binary else line.decode()

    def __iter__(self) -> "File":
        return self

    def __next__(self) -> "Any":
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (self._start, self._at, self._end)[whence]
        self._at = max(self._start, min(self._end, base + offset))
        return self._at - self._start

    def tell(self) -> int:
        return self._at - self._start

    def close(self) -> None:
        self._at = self._end

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
