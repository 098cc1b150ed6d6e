"""Write `build/mip`: what a web server gives to boards that install with mip.

`py/` holds the sources, `ARCHITECTURE/` the build for boards, and in `parts/` the modules of each
part one by one, with the names of the sources. Every folder is complete: its lists need no index.
"""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from warden_host.chips.chip import CHIPS, read_board

from warden_build import Built, packages
from warden_build.compiled import REPO, compile_one, needed

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
        _write(out / f"{board.name}.json", packages.board_list(version, files, _UMQTT, address))


def write_compiled(
    given: Inputs, architecture: str, out: Path, compiled: Path | None = None
) -> None:
    """Write the folder of an architecture and its lists. Raises ValueError.

    compiled: folder that holds the compiled build already, None to compile it.
    """
    version = packages.version_of(given.tree)
    parts = {name: packages.part_files(given.tree, part) for name, part in packages.PARTS.items()}
    jobs = []
    if compiled is None:
        jobs = [(path, text, out) for path, text in given.built.sources.items()]
    else:
        shutil.copytree(compiled, out)
    of_parts = {path for files in parts.values() for path in files}
    jobs += [(path, given.tree[path], out / "parts") for path in sorted(of_parts)]
    jobs.append((_UMQTT, given.umqtt, out))
    _compile(jobs, architecture)
    umqtt = _mpy(_UMQTT)
    for name in packages.FIRMWARE:
        _write(out / name, given.built.users["firmware/" + name])
    for name, files in parts.items():
        rows = [(_mpy(path), "parts/" + _mpy(path)) for path in files]
        if packages.needs_umqtt(rows):
            rows.append((umqtt, umqtt))
        _write(out / f"{name}.json", packages.text_of(version, rows, umqtt=False))
    files = [_mpy(path) for path in given.built.sources]
    rows = [(path, path) for path in [*files, umqtt]]
    _write(out / "package.json", packages.text_of(version, rows, umqtt=False))
    for board in given.boards:
        if CHIPS[read_board(board).chip].architecture == architecture:
            address = _copy_board(board, out)
            files = [
                _mpy(path)
                for path in needed(given.built.sources, [(board / "board.py").read_text()])
            ]
            text = packages.board_list(version, files, umqtt, address)
            _write(out / f"{board.name}.json", text)


def write_all(built: Built, compiled: Path, architectures: Iterable[str]) -> None:
    """Write the whole of build/mip anew. compiled: holds a folder for each architecture."""
    shutil.rmtree(OUT, ignore_errors=True)
    given = inputs(built)
    write_sources(given, OUT / "py")
    for architecture in architectures:
        write_compiled(given, architecture, OUT / architecture, compiled / architecture)


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


def _compile(jobs: list[tuple[str, str, Path]], architecture: str) -> None:
    def one(job: tuple[str, str, Path]) -> str:
        path, text, folder = job
        return compile_one(text, folder / _mpy(path), architecture)

    with ThreadPoolExecutor(2) as pool:
        failed = [said for said in pool.map(one, jobs) if said]
    if failed:
        raise ValueError("\n".join(failed))
