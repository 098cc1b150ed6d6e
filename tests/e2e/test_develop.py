"""Development mode of a live device: the order, what everybody sees, and Ctrl-C."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_kit import DEVICE, Board, World
from warden_host.cli import main
from warden_host.names import AUTHORITY
from warden_host.service.run import serving


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.provision(development=True)
    with serving(made.fleet, made.news.add):
        yield made


def call(world: World, *arguments: str) -> int:
    return main.run(["--fleet", str(world.fleet.root), *arguments])


def state(world: World, capsys: Any) -> str:
    capsys.readouterr()
    assert call(world, "devices", "--json") == 0
    return str(json.loads(capsys.readouterr().out)["state"])


def interrupted(board: Board) -> str:
    """Ctrl-C on the board's console: what it said at its end."""
    assert board.process is not None
    board.process.send_signal(signal.SIGINT)
    board.ends()
    return "\n".join(board.lines.all())


def test_an_order_opens_the_console_and_another_closes_it(world: World, capsys: Any) -> None:
    with Board(world.fleet.simulated(DEVICE)) as board:
        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        assert state(world, capsys) == "online"
        assert call(world, "develop", DEVICE, "--yes") == 0
        assert board.ends() == 3  # it starts anew
        board.start()
        board.wait_line("warden: DEVELOPMENT MODE: the console is open")
        board.wait_line("log development order")
        world.fleet_event("development", app=AUTHORITY)
        world.fleet_event("incident", code="development")
        assert state(world, capsys) == "development"
        assert "DEVELOPMENT MODE: here is the console" in interrupted(board)
        board.start()
        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        assert call(world, "develop", DEVICE, "--end") == 0
        assert board.ends() == 3
        board.start()
        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        assert state(world, capsys) == "online"
        said = interrupted(board)
        assert "log development" not in said and "here is the console" not in said
