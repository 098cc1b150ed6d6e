"""The one file of the package that a board has: what it holds, and what is imported from it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from warden_build import BuildError, archive, build  # noqa: E402  (the path must be set first)
from warden_build.compiled import (  # noqa: E402
    build_repository,
    compile_all,
    compile_package,
    flash_blocks,
    write_files,
)
from warden_build.groups import CORE_PATH  # noqa: E402

SOURCES = {
    CORE_PATH: "import sys\nNUMBER = 1\n",
    "warden/start.py": "from . import NUMBER\nVALUE = NUMBER + 1\n" + "print\n" * 20,
    "warden/gate.py": "from .start import VALUE\nNAMES = 'a text of gate', VALUE\n" + "len\n" * 20,
    "other/one.py": "VALUE = 3\n",
}


def run(folder: Path, micropython: str, code: str) -> str:
    """Run a program with folder as the place of packages; return what it printed."""
    done = subprocess.run(
        [micropython, "-c", f"import sys\nsys.path[:] = [{str(folder)!r}, '.frozen']\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    return done.stdout


@pytest.fixture
def package(tmp_path: Path) -> Path:
    write_files(compile_package(SOURCES), tmp_path)
    return tmp_path


def test_a_board_has_one_file_and_those_of_other_packages() -> None:
    files = compile_package(SOURCES)
    assert set(files) == {"warden.mpy", "other/one.mpy"}
    modules = archive.unpack(files["warden.mpy"])
    assert list(modules) == ["", "gate", "start"]
    for name in ("gate", "start"):
        code = compile_all(SOURCES)[f"warden/{name}.mpy"]
        assert modules[name] == code + bytes(-len(code) % 4)
    assert b"".join(modules.values()) == files["warden.mpy"]


def test_its_blocks() -> None:
    """A file has whole ones, and each folder of its own two; lib itself is there anyway."""
    assert flash_blocks({"warden.mpy": bytes(4097)}) == 2
    assert flash_blocks({"warden.mpy": bytes(4096), "other/one.mpy": b"M"}) == 1 + 1 + 2


def test_modules_are_imported_from_it(package: Path, micropython: str) -> None:
    """By every kind of import, and again after they were let go of."""
    code = """
import warden, warden.gate, other.one
from warden import gate, start
print(gate.NAMES, start.VALUE, other.one.VALUE, gate.__name__, gate.__file__)
for name in ("warden.gate", "warden.start"):
    del sys.modules[name]
from warden.gate import NAMES
print(NAMES, sys.modules["warden.gate"] is gate)
"""
    first = "('a text of gate', 2) 2 3 warden.gate /-/gate.mpy\n"
    assert run(package, micropython, code) == first + "('a text of gate', 2) False\n"


def test_all_of_the_package_is_found_in_it(tmp_path: Path, micropython: str) -> None:
    """Each module of the build, at its place and no other."""
    built = build_repository()
    files = compile_package(built.sources)
    write_files(files, tmp_path)
    names = set(archive.unpack(files["warden.mpy"])) - {""}
    assert names == {Path(path).stem for path in built.sources} - {"__init__"}
    code = "import warden\nfor name in NAMES:\n"
    code += (
        "    with warden.open('/' + name + '.mpy', 'rb') as file:\n        print(file.tell())\n"
    )
    said = run(tmp_path, micropython, code.replace("NAMES", repr(sorted(names))))
    compiled = compile_all(built.sources)
    for name, place in zip(sorted(names), said.split(), strict=True):
        module = compiled[f"warden/{name}.mpy"]
        assert files["warden.mpy"][int(place) :][: len(module)] == module


def test_what_is_not_in_it_is_not_there(package: Path, micropython: str) -> None:
    """Whatever the name looks like: a part of one, or one with its end."""
    code = """
import warden
for name in ("gat", "ate", "gate.mpy", "a", "m", "mp", "other", "start.gate"):
    try:
        __import__("warden." + name)
    except ImportError as error:
        print(error)
"""
    said = run(package, micropython, code).splitlines()
    assert len(said) == 8 and all("no module named 'warden." in line for line in said)


def test_an_import_that_failed_can_be_repeated(tmp_path: Path, micropython: str) -> None:
    """What it mounted is still there then."""
    core = SOURCES[CORE_PATH] + "if 'ready' not in sys.argv:\n    raise OSError(99)\n"
    write_files(compile_package(SOURCES | {CORE_PATH: core}), tmp_path)
    code = """
try:
    import warden
except OSError as error:
    print(error)
sys.modules.pop("warden", None)
sys.argv.append('ready')
from warden.gate import NAMES
print(NAMES)
"""
    assert run(tmp_path, micropython, code) == "99\n('a text of gate', 2)\n"


WALK = """
import os, vfs, warden
def walk(folder):
    for entry in os.ilistdir(folder or "/"):
        path = folder + "/" + entry[0]
        is_folder = os.stat(path)[0] & 0x4000
        assert is_folder == entry[1] & 0x4000, path
        print(path)
        if is_folder:
            walk(path)
root = os.getcwd()
vfs.umount("/")
vfs.mount(vfs.VfsPosix(root), "/")
os.chdir("/")
del sys.modules["warden"]
sys.path[:] = ["/"]
import warden.gate
walk("")
print(os.listdir("/-"), os.statvfs("/-")[2:4])
"""


def test_programs_that_look_at_all_of_a_board_come_to_an_end(
    package: Path, micropython: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To them the mount point is an empty folder without room."""
    monkeypatch.chdir(package)
    said = run(package, micropython, WALK).splitlines()
    assert said[0] == "/-" and said[-1] == "[] (0, 0)"
    assert set(said[1:-1]) == {"/warden.mpy", "/other", "/other/one.mpy"}


def test_nothing_is_written_through_it(package: Path, micropython: str) -> None:
    before = (package / "warden.mpy").read_bytes()
    code = """
import warden.gate
for path in ("/-/gate.mpy", "/-/x", "/-/new.txt"):
    try:
        with open(path, "wb") as file:
            file.write(b"something else")
    except (OSError, ImportError):
        print("refused")
"""
    assert run(package, micropython, code) == "refused\n" * 3
    assert (package / "warden.mpy").read_bytes() == before


def test_a_build_for_firmware_has_no_loader() -> None:
    """It is added where the file is made: frozen modules need none."""
    assert "vfs.mount" not in build_repository().sources[CORE_PATH]
    assert b"/-" in compile_package(SOURCES)["warden.mpy"]


def test_what_has_no_room_is_refused() -> None:
    def pack(size: int) -> bytes:
        modules = {"large": bytes(size), "start": b"M"}
        return bytes(archive.pack("", modules, lambda source: bytes(8)))

    assert len(pack(4 * 0xFFFF - 8)) == 4 * 0x10000
    with pytest.raises(BuildError, match="no room in the file for start"):
        pack(4 * 0xFFFF - 7)


@pytest.mark.parametrize("text", ["open = 1\n", "def stat():\n    pass\n", "x = [open('a')]\n"])
def test_a_core_that_has_a_name_of_the_loaders_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match="has a name that the loader of modules has"):
        build({CORE_PATH: "import sys\n" + text}, {})
    assert build({CORE_PATH: "import io\ndef f():\n    return io.open('a')\n"}, {})


def test_a_name_is_found_at_its_entry_alone() -> None:
    """With every number at which a part of the index could look like an entry."""
    for place in (0x2F, 0x2F2F, 0x2F61, 0x612F, 0x2E2F, 0x2F2E, 0x2E61, 0x612E):
        index = archive._index({"a": place, "b": place, "ab": place})
        for name in ("a", "b", "ab"):
            found = [match.start() for match in re.finditer(f"/{name}\\.".encode(), index)]
            assert len(found) == 1, (place, name)
