"""Count the flash that the package takes on a Pico W, compiled for it as `make mpy` does.

littlefs gives each file whole blocks of 4 KB, and each folder two.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from measure_kit import REPO, row
from warden_build.__main__ import BLOCK
from warden_build.compiled import build_repository, compile_tree, needed

_ARCHITECTURE = "armv6m"


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    sources = build_repository().sources
    board = (REPO / "boards" / "RPI_PICO_W" / "board.py").read_text()
    with tempfile.TemporaryDirectory() as folder:
        compile_tree(sources, Path(folder), _ARCHITECTURE)
        sizes = {
            path: (Path(folder) / path).with_suffix(".mpy").stat().st_size for path in sources
        }
    unit = "blocks of 4 KB"
    blocks, peer = _blocks(sizes, sizes)
    peer += "; commit 5ca6c9c: 108"
    yield row("flash of the whole package, RP2040", blocks, unit, most=50, peer=peer)
    blocks, peer = _blocks(sizes, needed(sources, [board]))
    yield row("flash of what RPI_PICO_W needs", blocks, unit, peer=peer)


def _blocks(sizes: dict[str, int], paths: Iterable[str]) -> tuple[int, str]:
    """Return the blocks of these files and their folders, and what they hold in words."""
    found = [sizes[path] for path in paths]
    folders = {Path(path).parent for path in paths}
    blocks = sum(-(-size // BLOCK) for size in found) + 2 * len(folders)
    return blocks, f"{sum(found):,} bytes in {len(found)} files"
