"""Put all modules of a board into one file, which is the package's core and has the others behind
it.

littlefs gives each file whole blocks of 4 KB, so files of their own leave a quarter of their flash
empty. MicroPython reads of a `.mpy` what belongs to it and nothing behind, so the file can go on:

    core       `warden/__init__.py` as `.mpy`, with the loader below and the index in it
    modules    each as `.mpy`; all begin at a multiple of 4, with zeros before them

The core is a filesystem, which it mounts as `/-` and names as the place of its submodules:
MicroPython imports from any object that answers `stat` and `open`. What `open` returns is the file
itself at the module's place, so a module is loaded as one from a file of its own is. Programs that
look at all of "/", those of mpremote too, see an empty folder without room.

One rename replaces core and modules, so they are of one build. A core that runs knows the places
in the file that it came from: reset a board after its file was replaced. A filesystem that
gives the memory of a whole file to the import, as MicroPython's ROMFS does, can't hold this one.

The index has an entry a module: "/NAME." and the place in the file, in units of 4 bytes, as a
little-endian number of two. A name is letters, digits and underscores. So "/NAME." is nowhere in
the index but at its entry: behind a "/" that is a byte of a number comes a second byte and "/", or
"/" at once.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path

from warden_build.groups import CORE_PATH, ROOT
from warden_build.scopes import BuildError, bound_names

CORE = Path(CORE_PATH).with_suffix(".mpy").as_posix()
PATH = f"{ROOT}.mpy"  # below lib
_UNIT, _PLACE = 4, 2  # bytes: what a module begins at a multiple of, a place in the index
# The loader's names are the firmware's, and cost no place in the pool; nor does a text that stands
# in a tuple. An import takes whatever `stat` raises for "no such file", a lack of memory too: so
# it says without a search that each `.mpy` is there, a file (ten numbers, the first without the
# bit of a folder), and `open` looks for it, and opens it to be read, whatever the mode. `statvfs`
# says the same of "/" as `stat`: no blocks. `mount` is called with two booleans, `umount` with
# nothing: where an import of the core failed, the next one finds it mounted. What only the mount
# takes leaves its place in the core's table of names to others.
_LOADER = """
import io, sys, vfs

mount, umount = max, locals

def stat(path):
    if path.endswith((".mpy",)[0]):
        return 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    if path != "/":
        raise OSError(2)
    return 0x4000, 0, 0, 0, 0, 0, 0, 0, 0, 0

statvfs = stat

def ilistdir(path):
    return iter(())

def open(path, mode):
    index = INDEX
    at = index.find(path[:-3].encode()) + len(path) - 3
    if at < len(path) - 3:
        raise ImportError("no module named '" + __name__ + "." + path[1:-4] + "'")
    file = io.open(__file__, "rb")
    file.seek((index[at] | index[at + 1] << 8) * 4)
    return file

__path__ = ("/-",)[0]
try:
    vfs.umount(__path__)
except OSError:
    pass
vfs.mount(sys.modules[__name__], __path__)
del mount, vfs
"""
_NAMES = {"ilistdir", "mount", "open", "stat", "statvfs", "umount"}


def check_names(core: ast.Module) -> None:
    """Raise BuildError where the core has one of the loader's names for something else."""
    used = {node.id for node in ast.walk(core) if isinstance(node, ast.Name)}
    for name in _NAMES & (used | {name for name, _ in bound_names(core)}):
        raise BuildError(f"the core has a name that the loader of modules has: {name}")


def pack(core: str, modules: dict[str, bytes], compile_core: Callable[[str], bytes]) -> bytes:
    """Return the file.

    core: source, as build() makes it. modules: name, such as rotation → compiled module
    compile_core: makes `.mpy` of a source
    Raises BuildError where the format has no room for them.
    """
    # Where a module lies follows from the core's length, which no place in the index changes.
    code = compile_core(_add_loader(core, _index(dict.fromkeys(modules, 0))))
    at, places = len(_padded(code)), {}
    for name, data in sorted(modules.items()):
        places[name] = at // _UNIT
        at += len(_padded(data))
    code = compile_core(_add_loader(core, _index(places)))
    return b"".join(map(_padded, [code, *(modules[name] for name in sorted(modules))]))


def unpack(file: bytes) -> dict[str, bytes]:
    """Return the modules of a file that pack() made: name → compiled module, with the zeros that
    follow; the core as "". The index is the longest run of entries in it."""
    runs = re.findall(rb"(?:/\w+\...)+", file, re.DOTALL)
    entries = re.findall(rb"/(\w+)\.(..)", max(runs, key=len, default=b""), re.DOTALL)
    places = {"": 0} | {
        name.decode(): int.from_bytes(place, "little") * _UNIT for name, place in entries
    }
    ends = [*list(places.values())[1:], len(file)]
    return {name: file[at:end] for (name, at), end in zip(places.items(), ends, strict=True)}


def _padded(code: bytes) -> bytes:
    return code + bytes(-len(code) % _UNIT)


def _index(places: dict[str, int]) -> bytes:
    made = bytearray()
    for name, place in sorted(places.items()):
        if place >= 1 << 8 * _PLACE:
            raise BuildError(f"there is no room in the file for {name}")
        made += f"/{name}.".encode() + place.to_bytes(_PLACE, "little")
    return bytes(made)


def _add_loader(core: str, index: bytes) -> str:
    """Return the core's source with the loader before its first import."""
    # Not parsed: several threads may be here (warden_host/fleet/board_file.py).
    found = re.search("^(?:import|from) ", core, re.MULTILINE)
    place = 0 if found is None else found.start()
    return core[:place] + _LOADER.replace("INDEX", repr(index)) + core[place:]
