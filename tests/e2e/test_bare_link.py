"""A sealed session without TLS: what works, and what an eavesdropper reads and can do with it."""

import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
import server_kit
import tomli_w
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, World
from port_kit import free_ports
from warden_host.broker.connection import ACCEPTED
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet import fleet
from warden_host.names import AUTHORITY

BASE = f"iot-2/type/{TYPE}/id/{DEVICE}"


class Wire:
    """Passes all bytes on between the device and the broker, and keeps a copy."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen = bytearray()

    def __call__(self, near: socket.socket) -> None:
        with socket.create_connection((server_kit.HOST, self._port)) as far:
            while True:
                for ready in select.select([near, far], [], [], 0.1)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    self.seen += data
                    (far if ready is near else near).sendall(data)


@pytest.fixture
def bare(tmp_path: Path, umqtt_path: Path) -> Iterator[tuple[World, Board, Wire, int]]:
    device_port, broker_port = free_ports(2)
    world = World(tmp_path)
    for port in (device_port, broker_port):  # the device's way leads through the wire
        table = {"bare_port": port, ACCEPTED: True, "device": {DEVICE: {"tls": False}}}
        path = world.fleet.root / fleet.CONFIG
        path.write_text(tomli_w.dumps(world.fleet.document | {"connection": table}))
        world.fleet = fleet.Fleet(world.fleet.root)
        if port == device_port:
            home = world.provision()
    wire = Wire(broker_port)
    with world, server_kit.listening(wire, device_port), Board(home) as board:
        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        yield world, board, wire, broker_port


class Eavesdropper:
    """A client with what it read on the wire: the device's own name and password."""

    def __init__(self, port: int, seen: bytes) -> None:
        name = f"d:{TYPE}:{DEVICE}".encode()
        # Client ID, the will's topic and message, user name, password: two bytes of length each.
        at = seen.index(b"\x00\x04MQTT") + 10
        fields = []
        for _ in range(5):
            size = int.from_bytes(seen[at : at + 2], "big")
            fields.append(bytes(seen[at + 2 : at + 2 + size]))
            at += 2 + size
        assert fields[0] == fields[3] == name
        self.password = fields[4].decode()
        self.heard: list[str] = []
        self.connected = False
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name.decode())
        self.client.username_pw_set(name.decode(), self.password)
        self.client.on_connect = self._on_connect
        self.client.on_message = lambda _c, _d, message: self.heard.append(message.topic)
        self.client.connect(server_kit.HOST, port)
        self.until(lambda: self.connected)

    def _on_connect(self, *_: object) -> None:
        self.connected = True

    def until(self, done) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + PATIENCE_S
        while not done() and time.monotonic() < end:
            self.client.loop(0.05)
        assert done()


def test_sealed_messages_need_no_tls(bare: tuple[World, Board, Wire, int]) -> None:
    world, board, wire, port = bare
    assert world.fleet_event("event", name="temperature").body == {"c": 20}
    assert world.command("set_relay", on=1) == {"on": 1}
    # Names and topics can be read, and nothing of what a message says.
    seen = bytes(wire.seen)
    assert BASE.encode() + b"/cmd/set_relay/fmt/cose" in seen
    assert b'"on"' not in seen and b"\x62on" not in seen and b"temperature" in seen
    assert not [news for news in world.news.all() if news.kind in ("refused", "incident")]
    # The log-in can be read, too. What it allows: to push the device off, which comes back.
    spy = Eavesdropper(port, seen)
    for event, fmt, data in (
        ("temperature", "json", b'{"c": 99}'),
        ("temperature", "cose", b"\xa0"),
        ("offline", "json", b"{}"),
    ):
        spy.client.publish(f"{BASE}/evt/{event}/fmt/{fmt}", data, qos=1)
        spy.client.loop(0.1)
    spy.client.publish(f"{BASE}/cmd/set_relay/fmt/json", b'{"cmd": "set_relay"}', qos=1)
    board.wait_line("log session-stands")
    spy.client.disconnect()
    assert world.command("set_relay", on=0) == {"on": 0}
    bodies = [news.body for news in world.news.all() if news.kind == "event"]
    assert {"c": 99} not in bodies
    # A plain command does not even reach the device: its account receives sealed ones alone.
    assert world.authority is not None
    forged = Request(DEVICE, "set_relay", {"on": 1}, forge="plain", timeout_s=0.5)
    with pytest.raises(HostError, match="timed-out"):
        world.authority.command(forged)
    assert b"/cmd/set_relay/fmt/json" not in wire.seen
