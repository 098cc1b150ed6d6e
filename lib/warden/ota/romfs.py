"""Mount an application image read-only, as ROMFS (the format of `mpremote romfs build`).

Each block is verified when it is read: the code that runs is what the installation verified.

A map beside the image holds the SHA-256 of each block of 4,096 bytes. The pages of the map, of 128
hashes each, are hashed again; the slot record, which the root key authenticates, has the root over
those. Readers get bytes of the buffer that was hashed, never of a second read.

ROMFS, from MicroPython's documentation of the format: records of (kind, length, payload), numbers
in base 128, the most significant digit first with bit 7 set on all but the last. The image is one
record of the kind 0x14a6b1; 2: data; 3: (length, offset) of data, counted from the payload of that
record; 4: directory and 5: file, each a name and then records; 0: the end; others are skipped.
"""

import hashlib
import io

from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Union

    Entry = tuple[Union[str, bytes], int, int, int]

BLOCK = 4096

_HASH = const(32)
_PAGE = const(4096)  # 128 hashes
_MOST_PAGES = const(64)  # of an image of 32 MB

_HEADER = const(b"\xd2\xcd\x31")
_END = const(0)
_DATA = const(2)
_POINTER = const(3)
_DIRECTORY = const(4)
_FILE = const(5)
_IS_DIRECTORY = const(0x4000)
_IS_FILE = const(0x8000)
_ENOENT = const(2)
_ENOTDIR = const(20)
_EISDIR = const(21)
_EINVAL = const(22)
_EROFS = const(30)


class Image:
    """The verified bytes of an image. on_damage: (function, argument) called for a bad block."""

    def __init__(
        self,
        file: "Any",
        map_file: "Any",
        size: int,
        root: bytes,
        on_damage: "tuple[Callable[[int], None], int] | None" = None,
    ) -> None:
        """Raises: StoreError slot-damaged: the map is not the one that was verified."""
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
        """Fill the buffer from the flash, and return the hash of its content."""
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
            # A block that can't be read is as bad: the application fails at it at each start.
            if self._on_damage is not None:
                self._on_damage[0](self._on_damage[1])
            raise
        self._loaded = number

    def byte(self, at: int) -> int:
        if at >= self.size:
            raise StoreError("slot-damaged", "a record reaches beyond the image")
        if at // BLOCK != self._loaded:
            self._load(at // BLOCK)
        return self._buffer[at % BLOCK]

    def readinto(self, at: int, view: memoryview) -> int:
        """Copy bytes from an offset up to the end of its block; return their number."""
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
    """A filesystem for vfs.mount(). Raises: StoreError slot-damaged: the image is no ROMFS."""

    def __init__(self, image: Image) -> None:
        self._image = image
        kind = bytes([image.byte(at) for at in range(min(3, image.size))])
        length, start = self._number(3)
        if kind != _HEADER or start + length > image.size:
            raise StoreError("slot-damaged", "the image is no ROMFS")
        self._root = (start, start + length)
        self._folder = b""

    # -- records ------------------------------------------------------------------------------

    def _number(self, at: int) -> "tuple[int, int]":
        """Return (the number, the offset behind it)."""
        value = 0
        for place in range(at, at + 5):
            digit = self._image.byte(place)
            value = value << 7 | digit & 127
            if digit < 128:
                return value, place + 1
        raise StoreError("slot-damaged", "a number that does not end")

    def _records(self, at: int, end: int) -> "Iterator[tuple[int, int, int]]":
        """Yield (kind, start, end) of each record between two offsets."""
        while at < end:
            kind, at = self._number(at)
            if kind == _END:
                return
            length, at = self._number(at)
            if at + length > end:
                raise StoreError("slot-damaged", "a record reaches beyond its place")
            yield kind, at, at + length
            at += length

    def _name(self, at: int, end: int) -> "tuple[bytes, int]":
        length, at = self._number(at)
        if length > 255 or at + length > end:
            raise StoreError("slot-damaged", "a name that is too long")
        return bytes([self._image.byte(place) for place in range(at, at + length)]), at + length

    def _parts(self, path: "str | bytes") -> "list[bytes]":
        """Return the names from the root to a path; OSError EINVAL for one above the root."""
        raw = _raw(path)
        parts: "list[bytes]" = []
        for part in (raw if raw[:1] == b"/" else self._folder + b"/" + raw).split(b"/"):
            if part == b"..":
                if not parts:
                    raise OSError(_EINVAL)
                parts.pop()
            elif part not in (b"", b"."):
                parts.append(part)
        return parts

    def _find(self, path: "str | bytes") -> "tuple[bool, int, int]":
        """Return (is it a directory, start, end of its records or data); OSError for no entry."""
        start, end = self._root
        is_directory = True
        for part in self._parts(path):
            if not is_directory:
                raise OSError(_ENOTDIR)
            for kind, at, stop in self._records(start, end):
                if kind in (_DIRECTORY, _FILE):
                    name, inside = self._name(at, stop)
                    if name == part:
                        is_directory, start, end = kind == _DIRECTORY, inside, stop
                        break
            else:
                raise OSError(_ENOENT)
        if is_directory:
            return True, start, end
        if _raw(path).endswith(b"/"):
            raise OSError(_ENOTDIR)
        start, end = self._data(start, end)
        if start < 0:
            raise OSError(_ENOENT)
        return False, start, end

    def _data(self, start: int, end: int) -> "tuple[int, int]":
        """Return (start, end) of a file's data; (-1, -1) for none, which is damage to VfsRom."""
        for kind, at, stop in self._records(start, end):
            if kind == _DATA:
                return at, stop
            if kind == _POINTER:
                length, at = self._number(at)
                offset, at = self._number(at)
                if at > stop:
                    raise StoreError("slot-damaged", "a record reaches beyond its place")
                offset += self._root[0]
                return offset, offset + length
        return -1, -1

    # -- the interface of MicroPython's filesystems -------------------------------------------

    def mount(self, readonly: bool, mkfs: bool) -> None:
        if mkfs:
            raise OSError(_EROFS)

    def umount(self) -> None:
        self._image.close()

    def mkdir(self, *_: "Any") -> None:
        raise OSError(_EROFS)

    remove = rename = rmdir = mkdir

    def stat(self, path: "str | bytes") -> "tuple[int, ...]":
        is_directory, start, end = self._find(path)
        if is_directory:
            return (_IS_DIRECTORY, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return (_IS_FILE, 0, 0, 0, 0, 0, end - start, 0, 0, 0)

    def statvfs(self, path: str) -> "tuple[int, ...]":
        blocks = (self._image.size + BLOCK - 1) // BLOCK
        return (BLOCK, BLOCK, blocks, 0, 0, 0, 0, 0, 1, 255)

    def ilistdir(self, path: "str | bytes") -> "Iterator[Entry]":
        is_directory, start, end = self._find(path)
        if not is_directory:
            raise OSError(_ENOTDIR)
        return self._entries(start, end, isinstance(path, bytes))

    def _entries(self, start: int, end: int, binary: bool) -> "Iterator[Entry]":
        for kind, at, stop in self._records(start, end):
            if kind not in (_DIRECTORY, _FILE):
                continue
            raw, inside = self._name(at, stop)
            name = raw if binary else raw.decode()
            first, last = (0, 0) if kind == _DIRECTORY else self._data(inside, stop)
            if first < 0:
                return
            yield name, _IS_DIRECTORY if kind == _DIRECTORY else _IS_FILE, 0, last - first

    def chdir(self, path: "str | bytes") -> None:
        if not self._find(path)[0]:
            raise OSError(_ENOENT)
        self._folder = b"".join([b"/" + part for part in self._parts(path)])

    def getcwd(self) -> str:
        return self._folder.decode() or "/"

    def open(self, path: "str | bytes", mode: str) -> "File":
        if "w" in mode or "a" in mode or "+" in mode or "x" in mode:
            raise OSError(_EROFS)
        is_directory, start, end = self._find(path)
        if is_directory:
            raise OSError(_EISDIR)
        return File(self._image, start, end, "b" in mode)


def _raw(path: "str | bytes") -> bytes:
    return path if isinstance(path, bytes) else path.encode()


class File(io.IOBase):
    """A file with the methods of one on littlefs; the firmware imports from it as an IOBase."""

    def __init__(self, image: Image, start: int, end: int, binary: bool) -> None:
        self._image: "Image | None" = image
        self._start = self._at = start
        self._end = end
        self._binary = binary

    def _open(self) -> Image:
        if self._image is None:
            raise ValueError("I/O operation on closed file")
        return self._image

    def _bytes(self, size: int) -> bytearray:
        """Read `size` bytes, or all that are left where that is less or `size` is negative."""
        data = bytearray(self._within(size))
        self.readinto(data)
        return data

    def _within(self, size: int) -> int:
        return min(max(0, self._end - self._at), size if size >= 0 else self._end)

    def _text(self, data: bytearray) -> "Any":
        return bytes(data) if self._binary else data.decode()

    def readinto(self, buffer: "Any", size: int = -1) -> int:
        """Fill the buffer, or its first `size` bytes, and return how many came."""
        image = self._open()
        view = memoryview(buffer)[: self._within(size)]
        done = 0
        while done < len(view):
            count = image.readinto(self._at, view[done:])
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
        """Return the rest, or its first `size` bytes; in a text file, characters."""
        data = self._bytes(size)
        if self._binary or size < 0:
            return self._text(data)
        # Characters of several bytes: read as many bytes more, then the rest of the last one.
        missing = size - _characters(data)
        while missing and self._at < self._end:
            more = self._bytes(missing)
            missing -= _characters(more)
            data += more
        while size and self._at < self._end and self._open().byte(self._at) & 0xC0 == 0x80:
            data += self._bytes(1)
        return data.decode()

    def readline(self, size: int = -1) -> "Any":
        """Return the next line with its end, or its first `size` bytes; nothing at the end."""
        image = self._open()
        line = bytearray()
        while self._at < self._end and len(line) != size and not line.endswith(b"\n"):
            line.append(image.byte(self._at))
            self._at += 1
        return self._text(line)

    def readlines(self) -> "list[Any]":
        return list(self)

    def __iter__(self) -> "File":
        return self

    def __next__(self) -> "Any":
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset from the start (whence 0), the position (1) or the end (2)."""
        self._open()
        at = (self._start, self._at, self._end)[whence] + offset
        if at < self._start:
            raise OSError(_EINVAL)
        self._at = at
        return at - self._start

    def tell(self) -> int:
        self._open()
        return self._at - self._start

    def flush(self) -> None:
        self._open()

    def close(self) -> None:
        self._image = None

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _characters(data: bytearray) -> int:
    """Return how many characters of UTF-8 begin in these bytes."""
    return sum(byte & 0xC0 != 0x80 for byte in data)
