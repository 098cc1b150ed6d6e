"""Compile the device package as boards run it for every architecture, and print what each file
takes in flash: `make mpy`.

    python -m warden_build                 every driver
    python -m warden_build RPI_PICO_W      the drivers that its board.py names, and no other

An architecture matters where a module has native or viper code, which mpy-cross turns into machine
code; one that does not compile for a chip would otherwise show only on that chip.
"""

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from warden_build import mip
from warden_build.compiled import REPO, build_repository, compile_one, needed

OUT = REPO / "build" / "mpy"
# Raspberry Pi Pico and Pico 2, ESP32 (S2, S3), ESP32-C3 and C6, the unix port.
BLOCK = 4096  # of the filesystem on a board: a file takes whole ones
ARCHITECTURES = ("armv6m", "armv7emsp", "xtensawin", "rv32imc", "x64")


def target(path: str, architecture: str) -> Path:
    """Where a module's compiled form goes."""
    return OUT / architecture / Path(path).with_suffix(".mpy")


def write_sources(sources: dict[str, str], folder: Path) -> None:
    """Write texts by their paths below a folder."""
    for path, text in sources.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def board(name: str) -> str:
    """Return the text of board.py in the folder of this name in boards/."""
    boards = sorted(file.parent.name for file in (REPO / "boards").glob("*/board.py"))
    if name not in boards:
        raise argparse.ArgumentTypeError(
            f"no board of this name: {name} (there are {', '.join(boards)})"
        )
    return (REPO / "boards" / name / "board.py").read_text()


def main(arguments: list[str]) -> int:
    """Build for the boards of these names, with their drivers alone; for all boards without. 0
    when everything compiled."""
    parser = argparse.ArgumentParser(
        prog="python -m warden_build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "boards", nargs="*", type=board, metavar="BOARD", help="a folder of boards/"
    )
    boards = parser.parse_args(arguments).boards
    shutil.rmtree(OUT, ignore_errors=True)
    built = build_repository()
    sources, users = built.sources, built.users
    if boards:
        sources = needed(sources, boards)
    jobs = [(path, architecture) for path in sources for architecture in ARCHITECTURES]

    def compile_job(job: tuple[str, str]) -> str:
        path, architecture = job
        return compile_one(sources[path], target(path, architecture), architecture)

    with ThreadPoolExecutor(2) as pool:
        errors = list(pool.map(compile_job, jobs))
    sizes: dict[str, dict[str, int]] = {}
    failures = 0
    for (path, architecture), error in zip(jobs, errors, strict=True):
        file = target(path, architecture)
        sizes.setdefault(path, {})[architecture] = file.stat().st_size if not error else 0
        if error:
            failures += 1
            print(f"{path} does not compile for {architecture}:\n{error}", file=sys.stderr)

    table = Table(title="Flash, bytes")
    table.add_column("module")
    for architecture in ARCHITECTURES:
        table.add_column(architecture, justify="right")
    for name, row in sizes.items():
        table.add_row(name, *(f"{row[architecture]:,}" for architecture in ARCHITECTURES))
    total = {a: sum(row[a] for row in sizes.values()) for a in ARCHITECTURES}
    table.add_section()
    table.add_row("total", *(f"{total[architecture]:,}" for architecture in ARCHITECTURES))
    # A log has no width of its own, and a table cut to 80 columns would hide the sizes.
    # A folder takes two blocks on littlefs.
    folders = {Path(path).parent for path in sources}
    blocks = {
        a: sum(-(-row[a] // BLOCK) for row in sizes.values()) + 2 * len(folders)
        for a in ARCHITECTURES
    }
    table.add_row(
        f"{len(sizes)} files, blocks of 4 KB",
        *(f"{blocks[architecture]:,}" for architecture in ARCHITECTURES),
    )
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    firmware = {path: users[path] for path in ("firmware/boot.py", "firmware/main.py")}
    write_sources(firmware, OUT)
    write_sources(sources, OUT / "frozen")  # for boards/*/manifest.py
    (OUT / "names.json").write_text(json.dumps(built.names, indent=1))
    (OUT / "sizes.json").write_text(json.dumps({"modules": sizes, "total": total}, indent=1))
    if not boards and not failures:
        mip.write_all(built, OUT, ARCHITECTURES)
    if not sources or failures:
        print(f"{failures} of {len(jobs)} did not compile", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
