"""Compile the device package as boards run it for every architecture, and print what each module
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
from pathlib import Path

from rich.console import Console
from rich.table import Table

from warden_build import archive, mip
from warden_build.compiled import (
    REPO,
    build_repository,
    compile_package,
    flash_blocks,
    needed,
    write_files,
)

OUT = REPO / "build" / "mpy"
# Raspberry Pi Pico and Pico 2, ESP32 (S2, S3), ESP32-C3 and C6, the unix port.
ARCHITECTURES = ("armv6m", "armv7emsp", "xtensawin", "rv32imc", "x64")


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
    sizes: dict[str, dict[str, int]] = {}
    blocks: dict[str, int] = {}
    for architecture in ARCHITECTURES:
        try:
            files = compile_package(sources, architecture)
        except ValueError as error:
            print(f"the build does not compile for {architecture}:\n{error}", file=sys.stderr)
            continue
        write_files(files, OUT / architecture)
        blocks[architecture] = flash_blocks(files)
        parts = archive.unpack(files[archive.PATH])
        sizes[architecture] = {name or "core": len(data) for name, data in parts.items()}
    table = Table(title="Flash, bytes")
    table.add_column("module")
    for architecture in sizes:
        table.add_column(architecture, justify="right")
    for name in next(iter(sizes.values()), {}):
        table.add_row(name, *(f"{of_all[name]:,}" for of_all in sizes.values()))
    table.add_section()
    table.add_row("total", *(f"{sum(of_all.values()):,}" for of_all in sizes.values()))
    table.add_row("blocks of 4 KB", *(f"{number:,}" for number in blocks.values()))
    # A log has no width of its own, and a table cut to 80 columns would hide the sizes.
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    firmware = {path: users[path] for path in ("firmware/boot.py", "firmware/main.py")}
    write_sources(firmware, OUT)
    write_sources(sources, OUT / "frozen")  # for boards/*/manifest.py
    (OUT / "names.json").write_text(json.dumps(built.names, indent=1))
    (OUT / "sizes.json").write_text(json.dumps({"modules": sizes, "blocks": blocks}, indent=1))
    failures = len(ARCHITECTURES) - len(sizes)
    if failures:
        print(f"{failures} of {len(ARCHITECTURES)} did not compile", file=sys.stderr)
        return 1
    if not boards:
        mip.write_all(built, ARCHITECTURES)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
