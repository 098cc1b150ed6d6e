"""Simulated devices with real drivers of displays, and `warden run … --web` for them."""

import contextlib
import http.client
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_kit import PATIENCE_S, TYPE, Journal, World, program
from warden_host.devices import provision
from warden_host.fleet import board_file
from warden_host.store.store import Store

DRIVERS = Path(__file__).parents[2] / "build" / "displays"
DISPLAYS = {
    "hd44780": 'DISPLAY = ("hd44780", 0, 5, 4, 0x27)',
    "ssd1306": 'DISPLAY = ("ssd1306", 0, 5, 4, 128, 32)',
}
APP = """
import asyncio, time
from machine import Pin
from warden import Device
device = Device.from_board(log=print)
relay, led = Pin(15, Pin.OUT), Pin("LED", Pin.OUT)
@device.command("set_relay")
def set_relay(args):
    relay.value(args["on"])
    return {"on": relay.value()}
@device.command("get_relay")
def get_relay(args):
    return {"time": time.time()}
print("time", time.time())
async def main():
    async with device:
        led.on()
        await asyncio.sleep(3600)
asyncio.run(main())
"""


def provision_with(world: World, device: str, display: str, **settings: Any) -> Path:
    """Make a simulated device whose board.py names a display; skip without the drivers."""
    if not (DRIVERS / "ssd1306.py").is_file():
        pytest.skip("no drivers of displays: `make setup` fetches them")
    text = board_file.load("UNIX").text
    board = board_file.parse(re.sub("(?m)^DISPLAY = .*$", DISPLAYS[display], text), "board.py")
    source = world.fleet.root / f"app-{device}"
    (source / "i2c_lcd").mkdir(parents=True)
    for path in DRIVERS.rglob("*.py"):
        (source / path.relative_to(DRIVERS)).write_bytes(path.read_bytes())
    (source / "machine_i2c_lcd.py").write_text("from i2c_lcd.i2c_lcd import I2cLcd\n")
    (source / "app.py").write_text(APP)
    order = provision.Order(device, TYPE, app_source=source, own_board=board, **settings)
    with Store(world.fleet.database) as store:
        provision.provision(world.fleet, store, order)
    return world.fleet.simulated(device)


class Simulator:
    """A running `warden run --web`, and requests to it as its page sends them."""

    def __init__(self, lines: Journal) -> None:
        self._lines = lines
        self.url = self.next_link()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#[\w-]{43}", self.url)
        assert found is not None, self.url
        self.port = int(found[1])
        self.token = ""

    def next_link(self) -> str:
        """Wait for the next link that it prints."""
        line = self._lines.wait_item(lambda line: '"notice"' in line, "link")
        return str(json.loads(line)["text"])

    def wait_line(self, device: str, text: str) -> str:
        """Wait for a line of a device's console that begins so."""

        def fits(line: str) -> bool:
            read = json.loads(line)
            return read.get("device") == device and read["line"].startswith(text)

        return str(json.loads(self._lines.wait_item(fits, f"{device}: {text}"))["line"])

    def enter(self) -> None:
        """Take a session, as a page does with the link."""
        status, answer = self.ask("POST", "/enter", {"key": self.url.partition("#")[2]})
        assert status == 200
        self.token = answer["session"]
        self.url = self.next_link()

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str | None
    ) -> tuple[int, Any]:
        """Return status and JSON of an answer. headers: None leaves one away."""
        sent: dict[str, str | None] = {"Origin": f"http://127.0.0.1:{self.port}"}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        sent |= headers
        text = body if isinstance(body, str | bytes | None) else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            given = {name: value for name, value in sent.items() if value is not None}
            connection.request(method, path, text, given)
            answer = connection.getresponse()
            data = answer.read()
        return answer.status, json.loads(data) if data[:1] in (b"{", b"[") else data

    def order(self, device: str, name: str, **fields: Any) -> None:
        """Give an order that is carried out."""
        assert self.ask("POST", f"/board/{device}/{name}", fields)[0] == 204


@contextlib.contextmanager
def simulator(world: World, *devices: str) -> Iterator[Simulator]:
    """Run devices with a page. Skips where its packages are missing."""
    pytest.importorskip("uvicorn", reason="no uvicorn: pip install 'warden[web]'")
    command = [sys.executable, "-m", "warden_host.cli", "--fleet", str(world.fleet.root)]
    with program([*command, "run", *devices, "--web", "--json"]) as lines:
        yield Simulator(lines)
