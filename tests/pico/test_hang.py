"""Code that hangs on the emulated Pico W, or resets it: the watchdog ends each start, the old slot
runs, and an application that resets the board at every start is held back.

The application of the update never gives the processor back, and the power stays on.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, World
from mpremote.romfs import VfsRomWriter
from ota_e2e_kit import send, until
from pico_kit import PATIENCE_S, Pico, program_pico, provision_pico, updatable_pico
from warden_host.engine.request import Request
from warden_host.names import AUTHORITY

# Beyond the chip's reach, as in boards/RPI_PICO_W: a timer feeds the chip's own watchdog.
WATCHDOG_MS = 9000
CHIP_MS = 8300
START_MS = 6000
BOARD = f'SLOTS = ("file", "/slots", ("app",), 2)\nWATCHDOG = {WATCHDOG_MS}\n'


@pytest.fixture
def pico(world: World, firmware: Path, tmp_path: Path) -> Iterator[Pico]:
    made = updatable_pico(world, firmware, tmp_path, BOARD)
    try:
        yield made
    finally:
        made.kill()


LONGER = """from warden.hal import watchdog


def hang():
    watchdog.start(%d)
    while True:
        pass
"""
HANG = "import sys\nsys.path[:] = ['.frozen', '/app', '/lib']\nimport longer\nlonger.hang()\n"
PROGRAM = "from warden.hal import reset_cause\n\n\ndef tell():\n    print([reset_cause.ended()])\n"
ENDED = "import sys\nsys.path[:] = ['.frozen', '/app', '/lib']\nimport cause\ncause.tell()\n"
RESET = "import machine\nmachine.Timer(period=500, callback=lambda _: machine.reset())\n"


def test_the_chip_tells_a_hang_from_a_reset(firmware: Path, tmp_path: Path) -> None:
    """machine.reset_cause() says the same of both: the register REASON does not."""
    program = tmp_path / "cause.py"
    program.write_text(PROGRAM)
    pico = program_pico(tmp_path, firmware, program)
    try:
        assert pico.execute(ENDED).strip() == "['']"
        pico.execute("import machine\nmachine.WDT(timeout=1000)\n")
        pico.wait_report(lambda report: "reset" in report, "reset by the watchdog")
        assert pico.execute(ENDED).strip() == "['watchdog']"
        pico.execute(RESET)
        pico.wait_report(lambda report: "reset" in report, "reset by the program")
        assert pico.execute(ENDED).strip() == "['reset']"
    finally:
        pico.kill()


def test_a_watchdog_beyond_the_chip_s_reach_ends_code_that_hangs(
    firmware: Path, tmp_path: Path
) -> None:
    program = tmp_path / "longer.py"
    program.write_text(LONGER % WATCHDOG_MS)
    pico = program_pico(tmp_path, firmware, program)
    try:
        pico.order(exec=HANG)
        reset = pico.wait_report(lambda report: "reset" in report, "reset by the watchdog")
        print("hung for", reset["ms"], "ms at most")
        assert WATCHDOG_MS < reset["ms"] < START_MS + WATCHDOG_MS + CHIP_MS
    finally:
        pico.kill()


def resets(pico: Pico) -> list[float]:
    """Return how long each start took that a reset ended, in the chip's milliseconds."""
    return [report["ms"] for report in pico.lines.all() if "reset" in report]


def test_an_update_that_hangs_is_undone(world: World, pico: Pico) -> None:
    pico.wait_line("version factory")
    pico.wait_line("log session-stands")
    writer = VfsRomWriter()
    writer.mkfile("app.py", b'print("it hangs")\nwhile True:\n    pass\n')
    assert send(world, 2, writer.finalise())["state"] == "Testing"
    for _ in range(2):
        pico.wait_line("it hangs")
    before = len(resets(pico))
    pico.wait_line("version factory")
    hung = resets(pico)[before - 1 :]
    assert len(hung) == 2
    assert max(hung) < START_MS + WATCHDOG_MS + CHIP_MS
    print("hanging starts:", hung, "ms")
    pico.wait_line("log update Rejected trial-failed")
    incident = world.fleet_event("incident", code="app-failed")
    assert (incident.name, incident.body) == ("watchdog", {"n": 2})
    until(world, "Idle")
    events = [
        news.body for news in world.news.all() if (news.kind, news.name) == ("event", "update")
    ]
    reports = [
        (body["sequence"], body["reason"]) for body in events if body["state"] == "Rejected"
    ]
    assert reports == [(2, "trial-failed")]


def test_an_application_that_resets_the_board_is_held_back(
    world: World, firmware: Path, tmp_path: Path
) -> None:
    app = tmp_path / "app.py"
    app.write_text('import machine\nprint("it resets")\nmachine.reset()\n')
    pico = provision_pico(world, firmware, app)
    try:
        pico.wait_line("recovery")
        starts = [report for report in pico.lines.all() if report.get("line") == "it resets"]
        assert len(starts) == 4
        incident = world.fleet_event("incident", code="app-failed")
        assert (incident.name, incident.body) == ("reset", {"n": 3})
        # The authority reaches it.
        assert world.authority is not None
        unlock = {"device": DEVICE}
        request = Request(DEVICE, "unlock", unlock, app=AUTHORITY, timeout_s=PATIENCE_S)
        assert world.authority.command(request)["reply"]["error"] == "gate-open"
    finally:
        pico.kill()
