"""Count the flash that the package takes on a Pico W, compiled for it as `make mpy` does.

littlefs gives each file whole blocks of 4 KB, and each folder two.
"""

from collections.abc import Iterator

from measure_kit import REPO, row
from warden_build.compiled import build_repository, compile_package, flash_blocks, needed

_ARCHITECTURE = "armv6m"


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    built = build_repository()
    board = (REPO / "boards" / "RPI_PICO_W" / "board.py").read_text()
    unit = "blocks of 4 KB"
    blocks, peer = _blocks(built.sources)
    peer += "; commit 5ca6c9c: 108"
    yield row("flash of the whole package, RP2040", blocks, unit, most=50, peer=peer)
    blocks, peer = _blocks(needed(built.sources, [board]))
    yield row("flash of what RPI_PICO_W needs", blocks, unit, peer=peer)


def _blocks(sources: dict[str, str]) -> tuple[int, str]:
    """Return the blocks of a build's files and their folder, and what they hold in words."""
    files = compile_package(sources, _ARCHITECTURE)
    held = f"{sum(map(len, files.values())):,} bytes in {len(files)} files"
    return flash_blocks(files), f"{held}, {len(sources)} modules"
