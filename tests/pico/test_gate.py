"""A one-time password on the emulated Pico W, at a keypad and a display on its pins.

Figures of the opened gate go to build/pico/gate.json, as rows of `make bench`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, World
from otp_kit import Owner, other
from pico_kit import HERE, PATIENCE_S, Pico, Row, provision_pico, write_rows
from warden_host.engine.request import Request
from warden_host.fleet import board_file
from warden_host.protocol import policy

APP = HERE / "device" / "marking.py"
DRIVER = HERE / "device" / "machine_i2c_lcd.py"
# As parts.py wires them.
PANEL = """
KEYPAD = ("matrix", (6, 7, 8, 9), (10, 11, 12), b"123456789*0#")
DISPLAY = ("hd44780", 0, 5, 4, 0x27)
"""
# Bytes of the C stack, which has 8,192: wanted, and the most: 5,040 for the answer to a refused
# command, and 1,100 for a network interrupt meanwhile (as in test_start.py).
STACK, STACK_MOST = 5500, 6200


@pytest.fixture
def pico(world: World, firmware: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pico]:
    load = board_file.load
    text = load("RPI_PICO_W").text + PANEL
    monkeypatch.setattr(board_file, "load", lambda _: board_file.parse(text, "board.py"))
    # The authority's clock runs many times faster than the chip's.
    gate = policy.otp(validity_s=3600, idle_s=600)
    made = provision_pico(world, firmware, APP, PANEL, driver=DRIVER, otp=gate)
    try:
        yield made
    finally:
        made.kill()


def test_a_code_at_the_keypad(world: World, pico: Pico, repo: Path) -> None:
    owner = Owner(world, PATIENCE_S)
    pico.shows("Code?")
    code = owner.code()
    # Nothing of the application runs yet, and no command reaches it.
    assert world.authority is not None
    request = Request(DEVICE, "set_relay", {"on": 1}, timeout_s=PATIENCE_S)
    assert world.authority.command(request)["reply"]["error"] == "gate-shut"
    pico.type(other(code) + "#")
    pico.shows("Code?", "*")
    pico.shows("Code?", "Wrong code")
    pico.type(code + "#")
    pico.wait_line("log gate-open otp")
    opened = pico.marks("settled")[-1]
    peak = pico.stack_peak()
    assert world.fleet_event("event", name="temperature").body == {"c": 20}
    assert world.command("set_relay", on=1) == {"on": 1}
    shown = [report["shown"] for report in pico.lines.all() if "shown" in report]
    assert ["Open", ""] in shown
    assert not [lines for lines in shown if code[:2] in lines[1]]
    assert not [line for line in pico.lines.all() if code in line.get("line", "")]
    write_rows(
        repo / "build" / "pico" / "gate.json",
        [
            Row("opened gate: free", opened.free, "bytes", least=105_000),
            Row("opened gate: largest piece", opened.largest, "bytes"),
            Row("opened gate: C stack", peak, "bytes", most=STACK),
        ],
    )
    assert peak <= STACK_MOST
