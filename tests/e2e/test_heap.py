"""The whole agent in a small heap, compiled as it is for a board: it connects, obeys and sends."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, PROBE, Board, World

# On the unix port, whose words are 64 bits wide: about twice what a board needs. With 171 KB one
# of four finds its heap in pieces when it connects anew, with 172 none of sixty does.
AGENT_HEAP = "176k"
# Enough for anything: what is counted in it is not its size.
ROOMY_HEAP = "200k"
# With room for the ballast of device/ballast.py, of which nothing may be kept.
BALLAST_HEAP, BALLAST = "400k", 100000
# MicroPython keeps each name for ever, in pools that double: the 621st opens one of 640 places, 7
# KB at once.
MOST_NAMES = 610

# What `make mpy` compiles, and boards run: the sources without the texts of their errors, with
# short private names.
sys.path.append(str(Path(__file__).parents[2] / "tools"))
from warden_build.compiled import compile_device  # noqa: E402  (the path must be set first)


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    yield from _compiled(World(tmp_path), PROBE)


@pytest.fixture
def ballast_world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    yield from _compiled(World(tmp_path), PROBE.with_name("ballast.py"))


def _compiled(made: World, source: Path) -> Iterator[World]:
    home = made.provision(source=source)
    # The chip's watchdog is a program here, and feeding it a task: 3 KB of this heap that are no
    # part of the agent.
    board_file = home / "root" / "lib" / "board.py"
    lines = board_file.read_text().splitlines()
    board_file.write_text("\n".join(line for line in lines if not line.startswith("WATCHDOG")))
    compile_device(home / "root")
    with made:
        yield made


def test_the_agent_in_its_heap(world: World) -> None:
    with Board(world.fleet.simulated(DEVICE), heap=AGENT_HEAP) as board:
        board.wait_line("log session-stands")
        assert world.fleet_event("event", name="temperature").body == {"c": 20}
        for value in range(3):
            assert world.command("set_relay", on=value) == {"on": value}
        # A second hand-shake wants its large buffers in a heap that was worked in.
        world.kill_broker()
        board.wait_line("log link-closed")
        world.start_broker()
        board.wait_line("log session-stands")
        assert world.command("set_relay", on=1) == {"on": 1}
        assert not [line for line in board.lines.all() if "memory" in line.lower()]


def test_the_names_it_keeps(world: World) -> None:
    with Board(world.fleet.simulated(DEVICE), heap=ROOMY_HEAP) as board:
        board.wait_line("log session-stands")
        world.command("probe")
        found = re.search(r"n_qstr=(\d+)", board.wait_line("qstr pool: "))
        assert found is not None
        assert int(found.group(1)) <= MOST_NAMES, (
            f"{found.group(1)} interned names: above 620 the next pool takes 7 KB of the heap, "
            "whatever else was saved; load less, or share names"
        )


def test_the_start_s_code_is_let_go_of(ballast_world: World) -> None:
    with Board(ballast_world.fleet.simulated(DEVICE), heap=BALLAST_HEAP) as board:
        kept = int(board.wait_line("kept ").split()[1])
    assert kept < BALLAST // 2, f"the session's heap has {kept} bytes more than before the start"
