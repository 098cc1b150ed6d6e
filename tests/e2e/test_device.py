"""The real firmware, a process of its own, against mosquitto and the authority: through every
restart it comes to stand again."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, Board, World


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.provision()
    with made:
        yield made


@pytest.fixture
def board(world: World) -> Iterator[Board]:
    with Board(world.fleet.simulated(DEVICE)) as started:
        yield started


def check_command(world: World, board: Board, value: int) -> None:
    assert world.command("set_relay", on=value) == {"on": value}
    board.wait_line(f"relay {value}")


def test_the_main_job_and_every_restart(world: World, board: Board) -> None:
    facts = board.facts()
    assert facts["boot"] == 0
    board.wait_line("log link-up")
    world.fleet_event("session", device=DEVICE)
    assert world.fleet_event("event", name="temperature").body == {"c": 20}
    check_command(world, board, 1)
    assert world.command("probe")["boot"] == 1

    # The broker dies without a word, and comes back.
    world.kill_broker()
    board.wait_line("log link-closed")
    world.start_broker()
    # At once: the authority must not seal it into the session that died with the broker.
    check_command(world, board, 2)
    world.fleet_event("session", device=DEVICE)

    # The power is cut, without a message. No nonce may come twice, so the boot counter rose.
    board.kill()
    board.start()
    assert board.facts()["boot"] == 1
    world.fleet_event("session", device=DEVICE)
    check_command(world, board, 3)
    assert world.command("probe")["boot"] == 2

    # The authority forgets every session, and asks for new ones; the device's connection stays.
    world.stop_authority()
    world.start_authority()
    world.fleet_event("session", device=DEVICE)
    check_command(world, board, 4)
    assert world.command("probe")["boot"] == 2

    # And all at once.
    world.stop_authority()
    world.kill_broker()
    board.wait_line("log link-closed")
    board.kill()
    board.start()
    world.start_broker()
    world.start_authority()
    board.wait_line("log session-stands")
    check_command(world, board, 5)


def test_idle(world: World, board: Board) -> None:
    """A connected device that has nothing to do sleeps: each wake-up is counted by the kernel."""
    world.fleet_event("event", name="temperature")
    check_command(world, board, 1)
    assert board.process is not None
    status = Path(f"/proc/{board.process.pid}/status")

    def switches() -> int:
        lines = status.read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

    # Time enough for a poll of the TLS socket, which would wake at once each time, to show as
    # thousands.
    def window() -> int:
        before = switches()
        time.sleep(2)
        return switches() - before

    assert min(window(), window()) < 40
