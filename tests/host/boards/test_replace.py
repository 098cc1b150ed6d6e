"""A new package beside the old one: nothing that runs is touched before the last step."""

from collections.abc import Iterator
from dataclasses import replace as with_

import pytest
from facts_kit import PICO
from warden_host.boards.package import Package
from warden_host.boards.replace import replace
from warden_host.errors import HostError

MADE = Package(
    {
        "/lib/warden.mpy": b"core",
        "/lib/umqtt/simple.mpy": b"mqtt",
        "/lib/board.py": b"NAME = 'x'",
        "/app/app.py": b"the application",
        "/boot.py~": b"boot",
        "/main.py~": b"main",
    }
)


class Board:
    """The connection to a board that writes what happens."""

    def __init__(self, free: int = 150, broken: str = "") -> None:
        self.free, self.broken = free, broken
        self.files: dict[str, bytes] = {}
        self.steps: list[str] = []

    def ask(self, program: str) -> dict[str, object]:
        self.steps.append("rename" if "os.rename" in program else "tidy")
        self.last = program
        return {"free": self.free}

    def write(self, path: str, data: bytes) -> Iterator[int]:
        if path == self.broken:
            raise HostError("board-failed", "the board's flash did not keep it")
        self.files[path] = data
        self.steps.append(path)
        yield len(data)


def test_the_rename_comes_last():
    board = Board()
    shown = []
    replace(board, PICO, MADE, lambda *at: shown.append(at))
    assert board.steps[0] == "tidy" and board.steps[-1] == "rename"
    assert set(board.files) == {
        "/lib~part/warden.mpy",
        "/lib~part/umqtt/simple.mpy",
        "/lib~part/board.py",
        "/boot.py~",
        "/main.py~",
    }
    assert "('/lib~part', '/lib~')" in board.last
    assert shown[-1][0] == shown[-1][1] == sum(map(len, board.files.values()))


@pytest.mark.parametrize("broken", ["/lib~part/board.py", "/main.py~"])
def test_a_file_that_the_flash_did_not_keep(broken: str):
    board = Board(broken=broken)
    with pytest.raises(HostError, match="did not keep"):
        replace(board, PICO, MADE, lambda *at: None)
    assert "rename" not in board.steps


def test_no_room_beside_the_old_one():
    board = Board(free=8)
    with pytest.raises(HostError) as caught:
        replace(board, with_(PICO, free=8), MADE, lambda *at: None)
    assert caught.value.code == "board-unfit"
    assert board.steps == ["tidy"]
