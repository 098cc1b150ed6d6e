"""Write `build/mip`: what a web server gives to boards that install with mip.

`py/` holds the sources; `ARCHITECTURE/` the build for boards, one file for all boards and one for
each, and in `parts/` the modules of each part one by one, with the names of the sources. Every
folder is complete: its lists need no index.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from warden_host.chips.chip import CHIPS, read_board

from warden_build import Built, archive, packages
from warden_build.compiled import REPO, compile_all, compile_package, needed, write_files

OUT = REPO / "build" / "mip"
_UMQTT = "umqtt/simple.py"


class Inputs(NamedTuple):
    """tree: path below lib → source. built: of it. umqtt: text of the MQTT client.

    firmware: name → source of boot.py and main.py. boards: folders.
    """

    tree: dict[str, str]
    built: Built
    umqtt: str
    firmware: dict[str, str]
    boards: list[Path]


def inputs(built: Built) -> Inputs:
    """Return what this checkout has."""
    lib, firmware = REPO / "lib", REPO / "firmware"
    return Inputs(
        {path.relative_to(lib).as_posix(): path.read_text() for path in lib.rglob("*.py")},
        built,
        (REPO / "build" / "umqtt" / _UMQTT).read_text(),
        {name: (firmware / name).read_text() for name in packages.FIRMWARE},
        sorted(path.parent for path in REPO.glob("boards/*/board.py")),
    )


def write_sources(given: Inputs, out: Path) -> None:
    """Write the folder with the sources and its lists."""
    files = [path for path in sorted(given.tree) if not packages.is_prose(given.tree[path])]
    version = packages.version_of(given.tree)
    for path in files:
        _write(out / path, given.tree[path])
    _write(out / _UMQTT, given.umqtt)
    for name, text in given.firmware.items():
        _write(out / name, text)
    for name, part in packages.PARTS.items():
        rows = [(path, path) for path in packages.part_files(given.tree, part)]
        if packages.needs_umqtt(rows):
            rows.append((_UMQTT, _UMQTT))
        _write(out / f"{name}.json", packages.text_of(version, rows, umqtt=False))
    rows = [(path, path) for path in [*files, _UMQTT]]
    _write(out / "package.json", packages.text_of(version, rows, umqtt=False))
    for board in given.boards:
        address = _copy_board(board, out)
        _write(out / f"{board.name}.json", packages.board_list(version, rows, address))


def write_compiled(given: Inputs, architecture: str, out: Path) -> None:
    """Write the folder of an architecture and its lists. Raises ValueError."""
    version = packages.version_of(given.tree)
    parts = {name: packages.part_files(given.tree, part) for name, part in packages.PARTS.items()}
    library = compile_package(given.built.sources | {_UMQTT: given.umqtt}, architecture)
    write_files(library, out)
    of_parts = {path for files in parts.values() for path in files}
    write_files(
        compile_all({path: given.tree[path] for path in sorted(of_parts)}, architecture),
        out / "parts",
    )
    umqtt = _mpy(_UMQTT)
    for name in packages.FIRMWARE:
        _write(out / name, given.built.users["firmware/" + name])
    for name, files in parts.items():
        rows = [(_mpy(path), "parts/" + _mpy(path)) for path in files]
        if packages.needs_umqtt(rows):
            rows.append((umqtt, umqtt))
        _write(out / f"{name}.json", packages.text_of(version, rows, umqtt=False))
    rows = [(path, path) for path in library]
    _write(out / "package.json", packages.text_of(version, rows, umqtt=False))
    for board in given.boards:
        if CHIPS[read_board(board).chip].architecture == architecture:
            address = _copy_board(board, out)
            sources = needed(given.built.sources, [(board / "board.py").read_text()])
            own = f"boards/{board.name}.mpy"
            write_files({own: compile_package(sources, architecture)[archive.PATH]}, out)
            rows = [(path, own if path == archive.PATH else path) for path in library]
            _write(out / f"{board.name}.json", packages.board_list(version, rows, address))


def write_all(built: Built, architectures: Iterable[str]) -> None:
    """Write the whole of build/mip anew."""
    shutil.rmtree(OUT, ignore_errors=True)
    given = inputs(built)
    write_sources(given, OUT / "py")
    for architecture in architectures:
        write_compiled(given, architecture, OUT / architecture)


def _mpy(path: str) -> str:
    return Path(path).with_suffix(".mpy").as_posix()


def _copy_board(board: Path, out: Path) -> str:
    """Copy a board's data into the folder; return its address there."""
    address = f"boards/{board.name}.py"
    _write(out / address, (board / "board.py").read_text())
    return address


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
