"""Replace the package on a board at once: the old one or the new one starts, wherever the power
is cut."""

from collections.abc import Callable
from dataclasses import replace as with_

from warden_host.boards import programs
from warden_host.boards.checks import Facts, check_room
from warden_host.boards.connection import Board
from warden_host.boards.package import STAGED, Package

# As firmware/boot.py and lib/warden/provisioning/replace.py have them.
PART, WHOLE = "/lib~part", "/lib~"
_SPARE_BLOCKS = 4  # the old package is there meanwhile, and the vault has its reserve


def replace(
    board: Board, facts: Facts, made: Package, progress: Callable[[int, int], None]
) -> None:
    """Write a new package beside the one that is there; the board's next start installs it.

    The application and the vault stay as they are. Nothing that runs is touched before the last
    step, a rename inside one folder: littlefs does that in one write. Reset the board afterwards.

    progress(done, total): called with bytes
    Raises: board-unfit, board-full, board-failed, board-lost.
    """
    files = {
        PART + path.removeprefix("/lib") if path.startswith("/lib/") else path: data
        for path, data in made.files.items()
        if path.startswith("/lib/") or path in STAGED
    }
    folders = Package(files).folders
    sizes = [len(data) for data in files.values()]
    tidy = programs.fill(programs.TIDY, ROOTS=[PART], FOLDERS=folders, KEPT=[], CHANGED=[])
    tidied = board.ask(tidy)
    free = tidied.get("free")
    check_room(with_(facts, free=free if isinstance(free, int) else 0), sizes, 0, _SPARE_BLOCKS)
    total, done = sum(sizes), 0
    for path, data in files.items():
        for at in board.write(path, data):
            progress(done + at, total)
        done += len(data)
    board.ask(programs.fill(programs.MAKE_LIVE, RENAMES=[(PART, WHOLE)]))
