"""Two devices behind the gateway of examples/gateway: real mosquitto, real firmware, and a gateway
that relays, lies, vanishes, or is another one."""

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from broker_kit import Client
from fleet_kit import PATIENCE_S, TYPE, Board, World, wait_until
from port_kit import free_ports
from warden_host.broker.connection import ACCEPTED
from warden_host.broker.mosquitto import dynsec
from warden_host.devices import gateways, revocation
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet import fleet
from warden_host.fleet.servers import Server
from warden_host.names import AUTHORITY
from warden_host.store.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "gateway"))
import gateway as example


class Liar(example.Gateway):
    """A gateway that does to commands what its mode says; the hand-shake passes."""

    mode = ""
    kept = b""
    commands = 0
    seen: bytes = b""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ids: set[str] = set()  # devices whose topics passed it

    def relay_up(self, topic, payload):
        self.seen += payload
        self.ids.add(topic.split("/")[4])
        return [payload]

    def relay_down(self, topic, payload):
        self.seen += payload
        self.ids.add(topic.split("/")[4])
        if "/cmd/set_relay/" not in topic:
            return [payload]
        self.commands += 1
        earlier, self.kept = self.kept, payload
        return {
            "spoil": [payload[:-1] + bytes([payload[-1] ^ 1])],
            "drop": [],
            "replay": [payload, earlier],
        }.get(self.mode, [payload])


class Running:
    """A gateway on an event loop of its own."""

    def __init__(self, document, port: int) -> None:
        self.made = Liar(document, "127.0.0.1", port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self.made.start())
        self._do(self.made.connected.wait())

    def _do(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def close(self) -> None:
        self._do(self.made.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[tuple[World, list[int]]]:
    made, ports = World(tmp_path), free_ports(2)
    table = {"bare_port": 0, ACCEPTED: True, "tls": False}
    path = made.fleet.root / fleet.CONFIG
    path.write_text(tomli_w.dumps(made.fleet.document | {"connection": table}))
    made.fleet = fleet.Fleet(made.fleet.root)
    servers = tuple(Server("127.0.0.1", port) for port in ports)
    for device in ("D1", "D2"):
        limits = {"backoff_min_ms": 100, "backoff_max_ms": 1000}
        made.provision(device, servers=servers, limits=limits)
    with made:
        yield made, ports


def _pushes_off(port: int, topic: bytes, size: int) -> None:
    """Log in as D2, as anyone at the site can, send one message, and wait for the end of it."""
    name = f"d:{TYPE}:D2".encode()
    texts = [len(one).to_bytes(2, "big") + one for one in (name, name, b"")]
    head = b"\0\4MQTT\4\xc2\0\x3c"
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as stranger:
        stranger.sendall(example.packet(1, head + b"".join(texts)))
        assert stranger.recv(4) == bytes((0x20, 2, 0, 0))
        body = len(topic).to_bytes(2, "big") + topic + bytes(size)
        stranger.sendall(example.packet(3, body))
        with contextlib.suppress(ConnectionResetError):  # of bytes that were not read
            assert stranger.recv(1) == b""


STRANGE_TOPICS = (b"/evt/\0/fmt/cose", b"/evt/" + b"/" * 300)


def test_devices_behind_gateways(world):
    made, ports = world
    with contextlib.ExitStack() as stack, Store(made.fleet.database) as store:
        passwords = {}
        for name, devices in (("hall", ("D1", "D2")), ("attic", ("D1",))):
            passwords[name] = gateways.add(made.fleet, store, name, devices)
        documents = {
            name: gateways.document(made.fleet, store, name, password)
            for name, password in passwords.items()
        }
        hall = Running(documents["hall"], ports[0])
        close_hall = stack.enter_context(contextlib.ExitStack())
        close_hall.callback(hall.close)
        for device in ("D1", "D2"):
            stack.enter_context(Board(made.fleet.simulated(device)))
        for _ in range(2):
            made.fleet_event("session", app=AUTHORITY)
        for number in (1, 2):
            for device in ("D1", "D2"):
                assert made.command("set_relay", device, on=number) == {"on": number}
        assert hall.made.commands == 4
        # What a stranger at the site sends ends the stranger's connection, and not the gateway's.
        ended: list[bool] = []
        on_broker = hall.made._on_broker
        hall.made._on_broker = lambda up: (ended.append(up), on_broker(up))
        base = f"iot-2/type/{TYPE}/id/D2".encode()
        for topic in STRANGE_TOPICS:
            _pushes_off(ports[0], base + topic, 10)
        _pushes_off(ports[0], base + b"/evt/x/fmt/cose", 10000)  # above the broker's limit
        assert made.command("set_relay", "D1", on=1) == {"on": 1}
        assert ended == []
        made.fleet_event("session", app=AUTHORITY, device="D2")
        # What it relays is sealed: neither keys nor content are in it.
        pairs = [pair for device in store.devices() for pair in device.pairs]
        assert not any(pair.k in hall.made.seen for pair in pairs)
        assert b'"on"' not in hall.made.seen and b"temperature" not in hall.made.seen

        # The other gateway's account, before its program runs: its own device alone, and sealed.
        name = documents["attic"]["broker"]["user"]
        attic = Client(made.fleet, name, name, passwords["attic"])
        base = f"iot-2/type/{TYPE}/id"
        assert attic.subscribe(f"{base}/D1/cmd/#")
        for topic in (f"{base}/D2/cmd/#", f"{base}/+/cmd/#", "#", f"{base}/D1/evt/#"):
            assert not attic.subscribe(topic)
        for topic in (f"{base}/D2/evt/x/fmt/cose", f"{base}/D1/evt/x/fmt/json"):
            attic.publish(topic)
        attic.publish(f"{base}/D1/evt/last/fmt/cose")
        seen = []
        while not seen or (seen[-1].kind, seen[-1].name) != ("refused", "last"):
            seen.append(made.news.wait_item(lambda _: True, "an event"))
        assert not [one for one in seen if one.kind == "refused" and one.name != "last"]
        attic.close()

        # One that lies is found as any broker is.
        def give(on: int, patience_s: float = PATIENCE_S):
            return made.authority.command(
                Request("D1", "set_relay", {"on": on}, timeout_s=patience_s)
            )

        for mode, code, answered in (("spoil", "tampered", False), ("replay", "replayed", True)):
            hall.made.mode = mode
            if answered:
                assert give(3)["ok"] is True
            else:
                with pytest.raises(HostError, match="timed-out"):
                    give(3, 2.0)
            made.fleet_event("incident", device="D1", code=code)
        hall.made.mode = "drop"
        with pytest.raises(HostError, match="timed-out"):
            give(4, 2.0)
        hall.made.mode = ""
        assert give(5)["reply"]["result"] == {"on": 5}

        # A device moves to the other gateway, as it is; the one that is not listed there can't.
        other = Running(documents["attic"], ports[1])
        stack.callback(other.close)
        close_hall.close()
        made.fleet_event("session", app=AUTHORITY, device="D1")
        assert made.command("set_relay", "D1", on=6) == {"on": 6}
        assert other.made.commands == 1
        assert hall.made.ids == {"D1", "D2"}
        assert other.made.ids == {"D1"}

        # Cut off at the broker, a device is so at its gateways.
        revocation.order_ending(store, "D1", revoke=True, wipe=False)
        assert revocation.revoke_access(made.fleet, store, "D1")

        def relays() -> bool:
            roles = dynsec.load(made.fleet.broker)["roles"]
            return any("/id/D1/" in acl["topic"] for role in roles for acl in role["acls"])

        wait_until(lambda: not relays(), "end of the gateways' rights")
