"""Updates over the sealed link to the real firmware: manifests by cbor2 and cryptography, images
by mpremote, starts by the real boot.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, Board, World
from mpremote.romfs import VfsRomWriter
from ota_e2e_kit import envelope, image, order, restarted, send, send_rest, until, updatable
from warden_host.names import AUTHORITY
from warden_host.sim.simulated import SimulatedDevice


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    with updatable(tmp_path) as made:
        yield made


def test_updates_over_the_air(world: World) -> None:
    home = world.fleet.simulated(DEVICE)
    with Board(home) as board:
        board.wait_line("version factory")
        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        two, sick, four = image("two"), image("sick", healthy=False), image("four")
        assert order(world)["state"] == "Idle"

        # Rolled out, tried, confirmed.
        assert send(world, 2, two)["state"] == "Testing"
        restarted(board, "two")
        assert world.fleet_event("event", name="update").body["state"] in ("Testing", "Accepted")
        until(world, "Idle")

        # An old one, a tampered one and one of another key are refused; what runs goes on.
        assert send(world, 2, two) == "old-manifest"
        changed = bytearray(envelope(3, sick))
        changed[-20] ^= 1
        assert order(world, envelope=bytes(changed)) == "suit-digest"
        assert order(world)["state"] == "Rejected"

        # Not well: given up at once, and the one before runs again and says so.
        assert send(world, 3, sick)["state"] == "Testing"
        assert board.ends() == 3
        board.start()
        board.wait_line("version sick")
        board.wait_line("log trial-failed")
        restarted(board, "two")
        reports = world.fleet_event("event", name="update").body
        while reports["state"] != "Rejected":
            reports = world.fleet_event("event", name="update").body
        assert (reports["reason"], reports["sequence"]) == ("trial-failed", 3)

        # Cut in the middle, by a power cut; it goes on and comes through.
        status = order(world, envelope=envelope(4, four))
        while status["want"][2] < len(four) - 2048:
            n, _, at, length = status["want"]
            status = order(world, n=n, data=four[at : at + length])
        board.kill()
        board.start()
        board.wait_line("version two")
        board.wait_line("log session-stands")
        status = order(world, envelope=envelope(4, four))
        assert status["want"][2] > len(four) // 3
        assert send_rest(world, status, four)["state"] == "Testing"
        restarted(board, "four")

        # Both slots changed behind its back: the agent alone starts, says so, and takes an update.
        until(world, "Idle")
        board.kill()
        for name in ("app.0.map", "app.1.map", "app.map.0", "app.map.1"):
            path = home / "root" / "slots" / name
            if path.exists():
                path.write_bytes(b"x" + path.read_bytes()[1:])
        board.start()
        board.wait_line("recovery")
        while world.fleet_event("event", name="update").body["state"] != "Recovery":
            pass
        assert send(world, 5, image("five"))["state"] == "Testing"
        restarted(board, "five")


def test_a_trial_that_hangs(world: World) -> None:
    """It never gives the processor back, and keeps its power: the board's watchdog ends each
    of its starts."""
    home = world.fleet.simulated(DEVICE)
    board_file = home / "root" / "lib" / "board.py"
    text = board_file.read_text()
    assert "\nWATCHDOG = 20000\n" in text
    board_file.write_text(text.replace("\nWATCHDOG = 20000\n", "\nWATCHDOG = 5000\n"))
    writer = VfsRomWriter()
    writer.mkfile("app.py", b"while True:\n    pass\n")
    with Board(home) as board:
        board.wait_line("log session-stands")
        assert send(world, 2, writer.finalise())["state"] == "Testing"
        assert board.ends() == 3
    for _ in range(2):
        said: list[str] = []
        with SimulatedDevice(home) as device:
            assert device.lines(said.append) == 3  # it counts as a reset
        assert said == ["-- the watchdog was not fed: it resets the board --"]
    with Board(home) as board:
        board.wait_line("version factory")
        board.wait_line("log update Rejected trial-failed")
        board.wait_line("log session-stands")
