"""Write the package onto a board: what is there already stays, what does not belong goes."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from warden_host.boards import programs
from warden_host.boards.checks import Facts, check_room
from warden_host.boards.connection import Board
from warden_host.boards.package import Package
from warden_host.errors import HostError

_SPARE_BLOCKS = 32  # the vault: a block for each of its records, and its reserve
# The last two: a package whose replacement was cut (replace.py).
_ROOTS = ("/lib/warden", "/lib/umqtt", "/lib~", "/lib~part")


def install(
    board: Board, facts: Facts, made: Package, progress: Callable[[int, int], None]
) -> int:
    """Write the files, and return how many the board did not have.

    From the first write on a start ends at the REPL: boot.py and main.py are gone. Files of the
    board that are none of Warden's stay, but for an application that a new one replaces.

    progress(done, total): called with bytes
    Raises: board-unfit, board-full, board-failed, board-lost.
    """
    sizes = [len(data) for data in made.files.values()]
    check_room(replace(facts, free=facts.blocks), sizes, len(made.folders), _SPARE_BLOCKS)
    if board.ask(programs.TAKE_DOWN).get("removed"):
        board.restart()  # without what boot.py had set up
    there = board.digests(list(made.files))
    missing = {
        path: data
        for path, data in made.files.items()
        if there.get(path) != hashlib.sha256(data).hexdigest()
    }
    has_app = any(path.startswith("/app/") for path in made.files)
    tidied = board.ask(
        programs.fill(
            programs.TIDY,
            ROOTS=[*_ROOTS, "/app"] if has_app else list(_ROOTS),
            FOLDERS=made.folders if has_app else [*made.folders, "/app"],
            KEPT=[path for path in made.files if path not in missing],
            CHANGED=list(missing),  # littlefs keeps the old file until the new one is closed
        )
    )
    free = tidied.get("free")
    if not isinstance(free, int):
        raise HostError("board-failed", "the board does not say how much room it has")
    check_room(
        replace(facts, free=free), [len(data) for data in missing.values()], 0, _SPARE_BLOCKS
    )
    total, done = sum(map(len, missing.values())), 0
    for path, data in missing.items():
        for at in board.write(path, data):
            progress(done + at, total)
        done += len(data)
    return len(missing)
