"""An application that fails at every start, on the real firmware and over the real broker."""

from pathlib import Path

from fleet_kit import DEVICE, Board, World
from ota_e2e_kit import APP, image, order, restarted, send, updatable
from warden_host.engine.request import Request
from warden_host.names import AUTHORITY
from warden_host.sim.simulated import SimulatedDevice

FAILING = Path(__file__).parent / "device" / "failing.py"
HEAP = "400k"


def failing(world: World) -> Path:
    """Give the device an application that fails."""
    home = world.fleet.simulated(DEVICE)
    app = home / "root" / "app"
    function = APP.read_text().split("def learn_keys")[1].split("if VERSION")[0]
    (app / "updatable.py").write_text("def learn_keys" + function)
    (app / "app.py").write_bytes(FAILING.read_bytes())
    return home


def test_its_owner_hears_of_it_and_can_send_an_update(tmp_path: Path, umqtt_path: Path) -> None:
    with updatable(tmp_path) as world:
        board = Board(failing(world), heap=HEAP)
        for start, error in enumerate(("ZeroDivisionError", "MemoryError", "UsageError")):
            board.start()
            board.wait_line(f"start {start}")
            assert board.ends() == 3
            assert error in "\n".join(board.lines.all())
        # The agent alone.
        with board:
            board.wait_line("recovery")
            board.wait_line("session-stands")
            incident = world.fleet_event("incident", code="app-failed")
            assert (incident.name, incident.body) == ("usageerror", {"n": 3})
            assert order(world)["state"] == "Idle"
            assert send(world, 2, image("two"))["state"] == "Testing"
            restarted(board, "two")
            while world.fleet_event("event", name="update").body["state"] != "Accepted":
                pass


def test_a_board_without_slots_stays_in_reach(tmp_path: Path, umqtt_path: Path) -> None:
    made = World(tmp_path)
    home = made.provision()
    app = home / "root" / "app" / "app.py"
    app.write_text("import warden.hal.system\nwarden.hal.system.PAUSE_S = 0.1\n")
    with made as world:
        board = Board(home)
        for _ in range(3):
            board.start()
            assert board.ends() == 3
        with board:
            board.wait_line("session-stands")
            incident = world.fleet_event("incident", code="app-failed")
            assert (incident.name, incident.body) == ("ended", {"n": 3})
            # The authority's commands arrive: no gate is shut.
            assert world.authority is not None
            unlock = Request(DEVICE, "unlock", {"device": DEVICE}, app=AUTHORITY)
            answer = world.authority.command(unlock)
            assert answer["reply"]["error"] == "gate-open"


def test_an_application_that_hangs_at_every_start(tmp_path: Path, umqtt_path: Path) -> None:
    """Its own, not an update's: the watchdog ends three starts, and the fourth is the agent's."""
    made = World(tmp_path)
    home = made.provision()
    board_file = home / "root" / "lib" / "board.py"
    text = board_file.read_text()
    board_file.write_text(text.replace("\nWATCHDOG = 20000\n", "\nWATCHDOG = 5000\n"))
    hang = "from warden import Device\nimport asyncio\n"
    hang += "async def main():\n    device = Device.from_board()\n    while True:\n        pass\n"
    (home / "root" / "app" / "app.py").write_text(hang + "asyncio.run(main())\n")
    with made as world:
        for _ in range(3):
            with SimulatedDevice(home) as device:
                assert device.lines(lambda line: None) == 3
        with Board(home) as board:
            board.wait_line("session-stands")
            incident = world.fleet_event("incident", code="app-failed")
            assert (incident.name, incident.body) == ("watchdog", {"n": 3})
