"""A device whose network is a serial line to the gateway of examples/gateway: real firmware, a
pseudo-terminal between them that can lose and turn bytes, real mosquitto."""

import asyncio
import contextlib
import os
import pty
import select
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from fleet_kit import PATIENCE_S, Board, World, wait_until
from warden_host.broker.connection import ACCEPTED
from warden_host.devices import gateways
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet import fleet
from warden_host.fleet.servers import Server
from warden_host.names import AUTHORITY
from warden_host.store.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "gateway"))
import gateway as example


class Line:
    """Two pseudo-terminals, and a thread that carries bytes between their far ends.

    spoil: how many of the next bytes to the device it changes; lose: how many it leaves out.
    """

    def __init__(self) -> None:
        self.spoil = self.lose = 0
        self._far, self.device = pty.openpty()
        self._near, self.gateway = pty.openpty()
        for end in (self.device, self.gateway):
            tty.setraw(end)
        os.set_blocking(self.gateway, False)
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        while True:
            ready, _, _ = select.select([self._far, self._near, self._stop], [], [])
            if self._stop in ready:
                return
            if self._far in ready:
                os.write(self._near, os.read(self._far, 1024))
            if self._near in ready:
                os.write(self._far, self._spoilt(os.read(self._near, 1024)))

    def _spoilt(self, data: bytes) -> bytes:
        if self.spoil:
            self.spoil -= 1
            half = len(data) // 2
            data = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
        if self.lose:
            self.lose -= 1
            data = data[: len(data) // 2] + data[len(data) // 2 + 1 :]
        return data

    def close(self) -> None:
        os.write(self._stopper, b"x")
        self._thread.join(PATIENCE_S)
        for end in (self._far, self.device, self._near, self.gateway, self._stop, self._stopper):
            os.close(end)


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    table = {"bare_port": 0, ACCEPTED: True, "tls": False}
    path = made.fleet.root / fleet.CONFIG
    path.write_text(tomli_w.dumps(made.fleet.document | {"connection": table}))
    made.fleet = fleet.Fleet(made.fleet.root)
    made.provision(
        servers=(Server("serial", 1),), limits={"backoff_min_ms": 100, "backoff_max_ms": 1000}
    )
    with made:
        yield made


def test_a_device_behind_a_serial_line(world):
    with Store(world.fleet.database) as store:
        password = gateways.add(world.fleet, store, "hall", ("D1",))
        document = gateways.document(world.fleet, store, "hall", password)
    line = Line()
    home = world.fleet.simulated("D1")
    (home / "root" / "uart").symlink_to(os.ttyname(line.device))
    board = home / "root" / "lib" / "board.py"
    text = board.read_text()
    assert 'NETWORK = "wired"' in text
    board.write_text(text.replace('"wired"', '("serial", {"id": "/uart", "baudrate": 115200})'))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_S)

    async def start() -> example.Gateway:
        made = example.Gateway(document, "127.0.0.1", 0)
        await made.start()
        await made.connected.wait()
        made.add_line(line.gateway)
        return made

    try:
        gateway = do(start())
        with Board(home):
            world.fleet_event("session", app=AUTHORITY)
            for number in (1, 2):
                assert world.command("set_relay", on=number) == {"on": number}
            # Of a turned and of a lost byte one connection ends, and the next one is the device's.
            for fault in ("spoil", "lose"):
                setattr(line, fault, 1)
                with contextlib.suppress(HostError):  # it may be in what the line spoilt
                    world.authority.command(Request("D1", "get_relay", {}, timeout_s=1.0))
                wait_until(lambda fault=fault: getattr(line, fault) == 0, fault)
                world.fleet_event("session", app=AUTHORITY)
                assert world.command("set_relay", on=3) == {"on": 3}
        # The device is off; a new one at the line takes the place of its connection.
        with Board(home):
            world.fleet_event("session", app=AUTHORITY)
            assert world.command("set_relay", on=4) == {"on": 4}
        do(gateway.stop())
        wait_until(lambda: not gateway._devices, "end of the connection")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()
        line.close()
