"""Orders of the authority that reach the board's own parts: its Wi-Fi, and its console.

The emulator's access point takes every SSID and password.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_kit import DEVICE, World
from pico_kit import NETWORK, PATIENCE_S, Pico, provision_pico
from test_port import mpremote
from warden_host.engine.request import Request

LESS = """
with open("/console.open") as file:
    until = file.read().split()[0]
with open("/console.open", "w") as file:
    file.write(until + " 20")
"""
APP = Path(__file__).parent / "device" / "marking.py"


@pytest.fixture
def pico(world: World, firmware: Path) -> Iterator[Pico]:
    made = provision_pico(world, firmware, APP, development=True)
    try:
        made.wait_line("log session-stands")
        yield made
    finally:
        made.kill()


def order(world: World, command: str, **args: Any) -> Any:
    assert world.authority is not None
    answer = world.authority.command(Request(DEVICE, command, args, timeout_s=PATIENCE_S))
    assert answer["ok"] is True, answer
    return answer["reply"]["result"]


def test_another_network_and_the_console(world: World, pico: Pico) -> None:
    new = "workshop"
    state = order(world, "wifi", id=1, add=[new, b"another password"], keep=[NETWORK.ssid])
    assert state["pending"] == [new, NETWORK.ssid]
    pico.wait_line(f"log wifi-changed {new}, {NETWORK.ssid}")
    state = order(world, "wifi")
    assert state == {"id": 1, "proved": 1, "networks": [new, NETWORK.ssid], "pending": None}
    # The board starts anew, joins the new network first, and leaves its console to mpremote.
    assert order(world, "develop", device=DEVICE, seconds=86400) == {"seconds": 86400}
    pico.wait_line("log development order")
    pico.wait_line("log session-stands")
    port = pico.port()
    assert "umqtt" in mpremote(port, "exec", "import os; print(os.listdir('/lib'))")
    # Twenty seconds are left; the soft reset before the second program takes the timer with it and
    # goes past main.py, and the board's own reset at their end takes the clock.
    mpremote(port, "resume", "exec", LESS)
    mpremote(port, "exec", "pass")
    pico.wait_line("log session-stands")
    opened = [
        report for report in pico.lines.all() if report.get("line") == "log development order"
    ]
    assert len(opened) == 1
