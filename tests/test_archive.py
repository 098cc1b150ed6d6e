"""The archive that boards import the package's modules from: what it holds, and what a damaged one
does."""

import resource
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
    write_files,
)
from warden_build.groups import CORE_PATH  # noqa: E402

# `start` is one of those that are not compressed, `gate` is not.
SOURCES = {
    CORE_PATH: "import sys\nNUMBER = 1\n",
    "warden/start.py": "from . import NUMBER\nVALUE = NUMBER + 1\n" + "print\n" * 20,
    "warden/gate.py": "from .start import VALUE\nNAMES = 'a text of gate', VALUE\n" + "len\n" * 20,
    "other/one.py": "VALUE = 3\n",
}
# A loader that never ends is ended by the CPU time that it takes.
CPU_S = 120


def run(folder: Path, micropython: str, code: str) -> str:
    """Run a program beside the package in folder, in its own; return what it printed."""
    done = subprocess.run(
        [micropython, "-c", "import sys\nsys.path[:] = ['.', '.frozen']\n" + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S)),
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    return done.stdout


@pytest.fixture
def package(tmp_path: Path) -> Path:
    write_files(compile_package(SOURCES, 77), tmp_path)
    return tmp_path


def test_a_board_has_two_files_and_those_of_other_packages() -> None:
    files = compile_package(SOURCES, 77)
    assert set(files) == {"warden/__init__.mpy", "warden/modules", "other/one.mpy"}
    assert archive.unpack(files["warden/modules"]) == {
        Path(path).stem: code
        for path, code in compile_all(SOURCES).items()
        if Path(path).stem in ("start", "gate")
    }
    sizes = archive.stored_sizes(files["warden/modules"])
    whole = compile_all(SOURCES)
    assert sizes["start"] == len(whole["warden/start.mpy"])
    assert sizes["gate"] < len(whole["warden/gate.mpy"])
    assert list(sizes) == ["gate", "start"]


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


def test_what_is_not_in_it_is_not_there(package: Path, micropython: str) -> None:
    """Whatever the name looks like: a part of one, one with its end, or of the index's numbers."""
    code = """
import warden
for name in ("gat", "ate", "gate.mpy", "a", "m", "mp", "other", "start.gate"):
    try:
        __import__("warden." + name)
    except ImportError as error:
        print(error)
"""
    said = run(package, micropython, code).splitlines()
    assert len(said) == 8 and all(" warden." in line or " 'warden." in line for line in said)


# Whatever was done to the file, the import of each module ends, and with an error that says why.
# `broken` is a generator of such files' bytes.
EVERY = """
import warden
with open("warden/modules", "rb") as file:
    good = file.read()
def broken():
    {broken}
for at, data in enumerate(broken()):
    with open("warden/modules", "wb") as file:
        file.write(data)
    for name in ("start", "gate"):
        sys.modules.pop("warden.start", None)
        sys.modules.pop("warden.gate", None)
        try:
            __import__("warden." + name)
            print(at, "imported")
        except Exception as error:
            print(at, repr(error))
"""
# The last three: a place that is in no file, and an index that ends before or inside an entry.
NAMED = ("no valid warden.", "EINVAL", "IndexError", "buffer too small")


def test_a_file_that_was_cut_is_refused(package: Path, micropython: str) -> None:
    """At each length: `start` is the last module, and `gate` imports it."""
    size = (package / "warden" / "modules").stat().st_size
    code = EVERY.format(broken="for size in range(len(good)): yield good[:size]")
    said = run(package, micropython, code).splitlines()
    assert len(said) == 2 * size
    assert not [line for line in said if not any(name in line for name in NAMED)]


def test_a_file_with_a_wrong_bit_is_refused(package: Path, micropython: str) -> None:
    """In a module: as damaged. In the index: as damaged, or as a module that is not there."""
    data = (package / "warden" / "modules").read_bytes()
    flip = "good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]"
    code = EVERY.format(broken=f"for at in range(len(good)): yield {flip}")
    said = [line.split(" ", 1) for line in run(package, micropython, code).splitlines()]
    refused = {int(words[0]) for words in said if words[1] != "imported"}
    index = 1 + data[0] * 16
    for at, text in said:
        if text != "imported":
            assert any(name in text for name in NAMED), (at, text)
            assert int(at) < index or NAMED[0] in text, (at, text)
    # Zeros fill the index up, and nothing reads them; after the last module comes nothing more.
    unread = {at for at in range(index) if not data[at:index].strip(b"\0")}
    size = data.index(b"/start.mpy") + len(b"/start.mpy") + 5
    assert refused >= set(range(len(data))) - unread - {size, size + 1}


def test_one_of_another_build_is_refused(tmp_path: Path, micropython: str) -> None:
    core = {"warden/__init__.py": "import sys\n"}
    builds = [
        build(core | {"warden/gate/gate.py": f"print({kind!r})\n"}, {})
        for kind in ("one", "other")
    ]
    assert builds[0].number != builds[1].number
    one, other = (compile_package(made.sources, made.number) for made in builds)
    code = "import warden\ntry:\n    import warden.gate\n"
    code += "except ImportError as error:\n    print(error)\n"
    for modules, said in ((one, "one\n"), (other, "no valid warden.gate.\n")):
        write_files(one | {archive.PATH: modules[archive.PATH]}, tmp_path)
        assert run(tmp_path, micropython, code) == said


def test_a_build_for_firmware_has_no_loader() -> None:
    """It is added where the archive is made: frozen modules need neither."""
    core = build_repository().sources[CORE_PATH]
    assert "deflate" not in core and "deflate" in archive.add_loader(core, 77)


def test_what_has_no_room_is_refused() -> None:
    with pytest.raises(BuildError, match="no room in the archive for start"):
        archive.pack({"start": bytes(1 << 16)}, 77)
    with pytest.raises(BuildError, match="no room in the archive for module"):
        archive.pack({f"module{number:030}": b"M" for number in range(99)}, 77)
    assert archive.pack({"start": bytes((1 << 16) - 1)}, 77)


def test_an_index_that_would_mislead_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's name among the numbers of an entry before its own."""
    monkeypatch.setattr(archive.zlib, "crc32", lambda *_: int.from_bytes(b"/b.m", "little"))
    monkeypatch.setattr(archive, "_key", lambda name: f"/{name}.m".encode())
    with pytest.raises((BuildError, ValueError)):
        archive.pack({"a": b"1", "b": b"2"}, 77)


@pytest.mark.parametrize("text", ["open = 1\n", "def stat():\n    pass\n", "x = [open('a')]\n"])
def test_a_core_that_has_a_name_of_the_loaders_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match="has a name that the loader of its archive has"):
        build({CORE_PATH: "import sys\n" + text}, {})
    assert build({CORE_PATH: "import io\ndef f():\n    return io.open('a')\n"}, {})
