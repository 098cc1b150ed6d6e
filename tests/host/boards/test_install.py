"""How much room a board must have before it is written to, and while it is."""

from dataclasses import replace

import pytest
from host_kit import refused
from warden_host.boards import install, programs
from warden_host.boards.checks import Facts
from warden_host.boards.package import Package

FACTS = Facts(
    version=(1, 29, 0),
    platform="linux",
    machine="",
    build="",
    mpy=0,
    unique_id="",
    heap=100_000,
    mounted="/",
    folded=False,
    block=1000,
    blocks=1000,
    free=1000,
    files=(),
    modules=(),
)
MADE = Package({"/lib/a.mpy": bytes(5000), "/boot.py~": b"pass"})
NEEDED = 5 + 1 + install._SPARE_BLOCKS  # without the folder


class BoardDouble:
    """A board that has no file and says how many blocks are free."""

    def __init__(self, tidied: dict) -> None:
        self.tidied = tidied
        self.asked: list[str] = []
        self.written: list[str] = []

    def ask(self, program: str) -> dict:
        self.asked.append(program)
        return {} if program == programs.TAKE_DOWN else self.tidied

    def digests(self, paths: list[str]) -> dict:
        return {}

    def write(self, path: str, data: bytes) -> list[int]:
        self.written.append(path)
        return [len(data)]


def installed(board: BoardDouble, facts: Facts = FACTS) -> int:
    return install.install(board, facts, MADE, lambda done, total: None)


def test_a_filesystem_that_is_too_small_is_not_touched():
    board = BoardDouble({"free": 1000})
    with refused("board-unfit"):
        installed(board, replace(FACTS, blocks=NEEDED + 1))
    assert board.asked == []
    assert installed(board, replace(FACTS, blocks=NEEDED + 2)) == 2


def test_a_filesystem_that_other_files_fill_gets_no_file():
    board = BoardDouble({"free": NEEDED - 1})
    with refused("board-unfit"):
        installed(board)
    assert board.written == []
    assert installed(BoardDouble({"free": NEEDED})) == 2


@pytest.mark.parametrize("tidied", [{}, {"free": None}, {"free": "1000"}])
def test_a_board_that_does_not_say_its_room(tidied):
    board = BoardDouble(tidied)
    with refused("board-failed"):
        installed(board)
    assert board.written == []
