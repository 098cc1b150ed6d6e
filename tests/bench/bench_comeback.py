"""Measure how soon a lost link is back, beside mqtt_as and umqtt.robust from their sources.

A device of ours and the peers run at once, each behind a path of its own to one broker, over
verified TLS, and publish four times a second. "Back" is the first of these messages that the
broker passes on. bench_silence.py has silence and half-open connections. PEERS names the folder
with the peers' checkouts (`micropython-mqtt`, `micropython-lib`); COMEBACKS is how often each is
done, 3 without it, and 0 measures the heap alone.
"""

import contextlib
import dataclasses
import json
import math
import os
import queue
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bench_peers
import paho.mqtt.client as mqtt
from bench_agent import TYPE
from demo import network as demo_network
from measure_kit import LeftOut, Process, figure, row, settings_of
from paho.mqtt.enums import CallbackAPIVersion
from warden_host import names
from warden_host.broker.accounts import app_account, device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import setup
from warden_host.devices.provision import Order, device_argv, provision
from warden_host.fleet import device_tree, pki
from warden_host.fleet.fleet import BrokerSettings, Settings
from warden_host.names import Topic
from warden_host.service.authority import Authority
from warden_host.store.store import Store

OURS, AS, ROBUST = "Warden", "mqtt_as", "umqtt.robust"
_AWAY_S = 10.0
_MOST_S = 150.0  # later is never
_PAUSE_S = 12.0  # a device answers a wake once in ten seconds
_RECONNECTS = 500

_APP = """\
import asyncio
from warden import Device

device = Device.from_board()

async def main():
    await device.start()
    while True:
        await asyncio.sleep_ms(250)
        await device.publish("tick", {"c": 21})

asyncio.run(main())
"""
_PROGRAMS = {
    AS: bench_peers.PROGRAMS[AS].replace(
        "await asyncio.Event().wait()",
        "while True:\n"
        "        await asyncio.sleep_ms(250)\n"
        "        await client.publish(TOPIC, b'tick')",
    ),
    ROBUST: """\
import time
from umqtt.robust import MQTTClient

context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.verify_mode = tls.CERT_REQUIRED
context.load_verify_locations(bytes.fromhex(setting["ca"]))
client = MQTTClient(setting["user"], "127.0.0.1", setting["port"], setting["user"],
                    setting["password"].encode(), 60, ssl=context)
client.connect()
while True:
    time.sleep_ms(250)
    client.publish(TOPIC, b"tick")
""",
}


class Way:
    """The way to the broker."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.forward, args=pair, daemon=True).start()

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Watcher:
    """Notes when a message of each device passes the broker."""

    def __init__(self, port: int, ca: Path, password: str) -> None:
        self._seen: dict[str, queue.Queue[float]] = {}
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=names.app_client("watcher"))
        client.username_pw_set(names.app_client("watcher"), password)
        client.tls_set(str(ca))
        client.reconnect_delay_set(0.1, 0.1)
        client.on_connect = lambda client, *_: client.subscribe(f"iot-2/type/{TYPE}/id/+/evt/#")
        client.on_message = self._note
        client.connect("127.0.0.1", port)
        client.loop_start()
        self._client = client

    def _note(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        topic = names.parse_topic(message.topic)
        if topic.verb == "tick":
            self._of(topic.device).put(time.monotonic())

    def _of(self, device: str) -> "queue.Queue[float]":
        return self._seen.setdefault(device, queue.Queue())

    def drain(self) -> None:
        for device in list(self._seen):
            self.drain_one(device)

    def drain_one(self, device: str) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._of(device).get_nowait()

    def next(self, device: str, seconds: float) -> float:
        """Return when the next message comes; infinity where none does."""
        try:
            return self._of(device).get(timeout=max(0.001, seconds))
        except queue.Empty:
            return math.inf

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class World:
    """A broker, a device of ours and the peers, each behind its own path."""

    def __init__(self, folder: Path, peers: Path) -> None:
        port, admin_port = demo_network.free_ports(2)
        settings = Settings(BrokerSettings(port=port, device_port=port, admin_port=admin_port), ())
        self.fleet = setup.new_fleet(folder / "fleet", settings)
        self.paths = {name: Way(port) for name in (OURS, AS, ROBUST)}
        self._peers, self.folder = peers, folder
        self.password, secret = device_password(), device_password()
        plain = self.fleet.settings
        ours = dataclasses.replace(plain.broker, device_port=self.paths[OURS].port)
        self.fleet.settings = dataclasses.replace(plain, broker=ours)
        source = folder / "ticks.py"
        source.write_text(_APP)
        with Store(self.fleet.database) as store:
            provision(self.fleet, store, Order("warden", TYPE, app_source=source))
        self.fleet.settings = plain
        with registry.opened(self.fleet) as accounts:
            for name in (AS, ROBUST):
                accounts.put(device_account(TYPE, slug(name), self.password))
            accounts.put(app_account("watcher", (TYPE,), secret))
        self.watcher_secret = secret
        umqtt = folder / "robust" / "umqtt"
        umqtt.mkdir(parents=True)
        for one in ("simple", "robust"):
            of = peers / "micropython-lib" / "micropython" / f"umqtt.{one}" / "umqtt"
            shutil.copy(of / f"{one}.py", umqtt)

    def run(self, name: str) -> Process:
        if name == OURS:
            return Process(device_argv(device_tree.tree(), self.fleet.simulated("warden")))
        return self.run_peer(name, slug(name), self.paths[name].port)

    def run_peer(self, name: str, device: str, port: int) -> Process:
        """Start a peer under a device's account; port: of its path."""
        topic = str(Topic(TYPE, device, "evt", "tick", names.PLAIN))
        setting = settings_of(self.fleet, TYPE, device, self.password, port, topic)
        peers = self._peers / "micropython-mqtt"
        setting["path"] = [str(peers if name == AS else self.folder / "robust")]
        process = Process([device_tree.micropython(), "-c", bench_peers.HEAD + _PROGRAMS[name]])
        process.write_line(json.dumps(setting))
        return process


def slug(name: str) -> str:
    return name.replace(".", "-").lower()


Times = dict[str, list[float]]


class Race:
    """All of them at once; one that does not come back is started anew for the next time."""

    def __init__(self, world: World, watcher: Watcher, stack: contextlib.ExitStack) -> None:
        self._world, self._watcher = world, watcher
        self._running = {name: world.run(name) for name in world.paths}
        stack.callback(self._stop)
        for name in self._running:
            if watcher.next(slug(name), _MOST_S) == math.inf:
                raise RuntimeError(f"{name} does not connect")

    def _stop(self) -> None:
        for process in self._running.values():
            process.stop()

    def times(self, count: int, lose: Callable[[], float]) -> Times:
        """Lose the links so often; lose() returns when they could be back."""
        found: Times = {name: [] for name in self._running}
        for _ in range(count):
            time.sleep(_PAUSE_S)
            began = lose()
            for name in found:
                if found[name][-1:] == [math.inf]:
                    found[name].append(math.inf)  # once is enough of what takes for ever
                    continue
                at = self._watcher.next(slug(name), began + _MOST_S - time.monotonic())
                found[name].append(at - began)
                if at == math.inf:
                    self._running[name].stop()
                    self._running[name] = self._world.run(name)
        return found


def find_peers() -> Path:
    """Return the folder with the peers' checkouts. Raises LeftOut."""
    peers = Path(os.environ.get("PEERS") or "none")
    for needed in ("micropython-mqtt", "micropython-lib"):
        if not (peers / needed).is_dir():
            raise LeftOut(f"PEERS names no folder with a checkout of {needed}")
    return peers


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    peers = find_peers()
    count = int(os.environ.get("COMEBACKS", "3"))
    with contextlib.ExitStack() as stack:
        world = World(stack.enter_context(demo_network.folder()), peers)
        broker = Broker(world.fleet)
        stack.enter_context(broker)
        yield heap(world)
        if not count:
            return
        port, ca = world.fleet.settings.broker.port, world.fleet.keys / "ca.crt"
        watcher = Watcher(port, ca, world.watcher_secret)
        stack.callback(watcher.close)
        stack.enter_context(Authority(world.fleet, lambda _: None))
        race = Race(world, watcher, stack)

        def restart() -> float:
            began = time.monotonic()
            broker.stop()
            watcher.drain()
            broker.start()
            return began

        def be_away() -> float:
            broker.stop()
            watcher.drain()
            time.sleep(_AWAY_S)
            began = time.monotonic()
            broker.start()
            return began

        yield from table_rows(f"broker restarted, {count} times", race.times(count, restart))
        yield from table_rows(f"broker away 10 s, {count} times", race.times(count, be_away))


def table_rows(what: str, times: Times) -> Iterator[dict[str, object]]:
    """Yield median and worst of ours beside the peers'."""
    ours = times.pop(OURS)
    for name, of in (("median", statistics.median), ("worst", max)):
        peers = {peer: of(found) for peer, found in times.items()}
        shown = ", ".join(
            f"{peer} {'never' if value == math.inf else figure(value)}"
            for peer, value in peers.items()
        )
        best = min(peers.values())
        most = None if best == math.inf else float(f"{best:.3g}")
        yield row(f"back, {what}: {name}", of(ours), "s", most=most, peer=shown)


def heap(world: World) -> dict[str, object]:
    """Return the row of the heap in use after many connections, over that after a few."""
    script = Path(__file__).parents[1] / "e2e" / "device" / "drive.py"
    tree = device_tree.tree()
    config = {
        "lib": str(tree.root / "lib"),
        "umqtt": str(device_tree.umqtt().parent),
        "host": "127.0.0.1",
        "port": world.fleet.settings.broker.port,
        "cas": [pki.ca_der(world.fleet.keys).hex()],
        "pins": [pin.hex() for pin in pki.load_pins(world.fleet.keys)],
        "user": names.device_client(TYPE, slug(AS)).encode().hex(),
        "password": world.password.encode().hex(),
        "client_id": names.device_client(TYPE, slug(AS)),
        "publish": [[str(Topic(TYPE, slug(AS), "evt", "tick", names.PLAIN)), 64]],
        "topics": [names.topic_base(TYPE, slug(AS)) + "/cmd/#"],
    }
    config |= {"handshake_ms": 20000, "stall_ms": 5000, "keepalive_s": 60, "max_packet": 2048}
    config |= {"flood": False, "pump": False, "tick_ms": 1000, "floor": 0, "clock": None}
    config["times"] = _RECONNECTS + 20
    path = world.folder / "drive.json"
    path.write_text(json.dumps(config))
    size = 4 << 20
    with Process([device_tree.micropython(), "-X", "heapsize=4m", str(script), str(path)]) as one:
        one.child.wait(600)
        said = json.loads([line for line in iter(one.said.get, "") if line.startswith("{")][-1])
    if set(said["codes"]) != {""}:
        raise RuntimeError(f"connections failed: {sorted(set(said['codes']))}")
    # The best of ten: a stale word holds kilobytes for a moment.
    before, after = (size - max(found) for found in (said["free"][10:20], said["free"][-10:]))
    share = 100 * after / before
    name = f"heap in use after {_RECONNECTS} reconnects, of that before"
    return row(name, share, "%", most=101, peer=f"{before:,} bytes before")
