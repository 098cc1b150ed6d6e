"""Put the modules of a board into one file, each compressed, that the core imports them from.

littlefs gives each file whole blocks of 4 KB, so files of their own leave a quarter of their flash
empty. The archive `warden/modules` lies beside the core, `warden/__init__.mpy`, which mounts a
filesystem of two functions for it, itself (`LOADER`): MicroPython imports from any object that
answers `stat` and `open`. The firmware's `deflate` expands a module while it is read, so nothing
of it is in the heap twice.

    1 byte     the length of the index, in units of 16 bytes
    index      an entry a module, sorted: "/NAME.mpy", and little-endian without gaps 1 byte,
               whether it is compressed; 4 bytes, its place in the file; 2 bytes, its size there;
               4 bytes, the CRC-32 of these bytes, begun with the number of the build and the first
               byte. Then zeros
    modules    as `.mpy`, or raw deflate (RFC 1951) of that with a window of 1 KB

What each start loads, and what stays, is not compressed: with all of it compressed a Pico W's
start took 0.1 s more and 0.2 KB more of the C stack.

The CRC is for flash that lost a bit, for a file that was cut, since MicroPython loops for ever in
a `.mpy` that ends too early, and for an archive of another build than the core's. It proves
nothing about who made the file, as none of the package's files does (docs/threat-model.md).
"""

import ast
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from warden_build.groups import CORE_PATH, PASSING, STAYING
from warden_build.scopes import BuildError, bound_names

CORE = Path(CORE_PATH).with_suffix(".mpy").as_posix()
PATH = f"{Path(CORE_PATH).parent}/modules"  # below lib
WINDOW_BITS = 10
_ENTRY = struct.Struct("<BIHI")
_UNIT = 16  # bytes of the index
# What starts load. The last three: for a long message, and with slots.
_PLAIN = {Path(path).stem for path in (*STAYING, *PASSING)} | {"ccm_long", "ota", "romfs"}
# The core itself is the filesystem that it mounts. Its names are firmware's, and cost no place in
# the pool. An import takes whatever `stat` raises for "no such file", a lack of memory too: so it
# allocates nothing and says that each `.mpy` is there, a file (ten numbers, the first without the
# bit of a folder), and `open` looks for it. `mount` is called with two booleans.
LOADER = f"""
import io, sys

mount = max

def stat(path):
    if path.endswith(".mpy"):
        return 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    raise OSError

def open(path, mode):
    import binascii, deflate, gc, struct
    file = io.open(__file__[:-12] + "modules", "rb")
    index = file.read(file.read(1)[0] * {_UNIT})
    at = index.find(path.encode())
    if at >= 0:
        packed, start, size, wanted = struct.unpack_from(
            "{_ENTRY.format}", index, at + len(path)
        )
        file.seek(start)
        view = memoryview(bytearray(128))
        crc = packed ^ BUILD
        for left in range(size, 0, -128):
            crc = binascii.crc32(view[:file.readinto(view[:left])], crc)
        if crc == wanted:
            gc.collect()  # the module takes the lowest gaps, and this garbage lies above
            file.seek(start)
            if packed:
                return deflate.DeflateIO(file, deflate.RAW, {WINDOW_BITS}, True)
            return file
    raise ImportError("no valid " + __name__ + "." + path[1:-3])

__path__ = "/-"
__import__("vfs").mount(sys.modules[__name__], __path__)
"""
_NAMES = {"mount", "open", "stat"}


def check_names(core: ast.Module) -> None:
    """Raise BuildError where the core has one of the loader's names for something else."""
    used = {node.id for node in ast.walk(core) if isinstance(node, ast.Name)}
    for name in _NAMES & (used | {name for name, _ in bound_names(core)}):
        raise BuildError(f"the core has a name that the loader of its archive has: {name}")


def add_loader(core: str, number: int) -> str:
    """Return the core's source with the code that reads the archive, before its first import.

    core: as build() makes it. number: of the build
    """
    # Not parsed: several threads may be here (warden_host/fleet/board_file.py).
    found = re.search("^(?:import|from) ", core, re.MULTILINE)
    place = 0 if found is None else found.start()
    return core[:place] + LOADER.replace("BUILD", str(number)) + core[place:]


def pack(modules: dict[str, bytes], number: int) -> bytes:
    """Return an archive.

    modules: name, such as rotation → compiled module. number: of the build, below 1 << 30
    Raises BuildError where the format has no room for them.
    """
    stored = {
        name: code if name in _PLAIN else _deflate(code) for name, code in sorted(modules.items())
    }
    length = -(-sum(len(_key(name)) + _ENTRY.size for name in stored) // _UNIT)
    index, place = bytearray(), 1 + length * _UNIT
    for name, data in stored.items():
        if len(data) >= 1 << 16 or length > 255:
            raise BuildError(f"there is no room in the archive for {name}")
        packed = name not in _PLAIN
        entry = _ENTRY.pack(packed, place, len(data), zlib.crc32(data, packed ^ number))
        index += _key(name) + entry
        place += len(data)
    made = bytes([length]) + index.ljust(length * _UNIT, b"\0") + b"".join(stored.values())
    if unpack(made) != modules:  # a name of the index that is among the numbers of another entry
        raise BuildError("the archive's index is ambiguous")
    return made


def unpack(archive: bytes) -> dict[str, bytes]:
    """Return the modules of an archive that pack() made: name → compiled module."""
    return {
        name: zlib.decompress(data, -WINDOW_BITS) if packed else data
        for name, packed, data in _members(archive)
    }


def stored_sizes(archive: bytes) -> dict[str, int]:
    """Return the bytes that each module takes in an archive."""
    return {name: len(data) for name, _, data in _members(archive)}


def _members(archive: bytes) -> Iterator[tuple[str, bool, bytes]]:
    """Yield each module's name, whether it is compressed, and its bytes in the archive."""
    index = archive[1 : 1 + archive[0] * _UNIT]
    at = 0
    while index[at : at + 1] == b"/":
        name = index[at + 1 : index.index(b".mpy", at)].decode()
        # As the loader looks for it: the first place in the index that has the name.
        packed, place, size, _ = _ENTRY.unpack_from(
            index, index.index(_key(name)) + len(_key(name))
        )
        yield name, bool(packed), archive[place : place + size]
        at += len(_key(name)) + _ENTRY.size


def _key(name: str) -> bytes:
    return f"/{name}.mpy".encode()


def _deflate(code: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -WINDOW_BITS, 9)
    return packer.compress(code) + packer.flush()
