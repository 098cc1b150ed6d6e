"""Measure what the network costs: round trips, connecting, bytes, and how soon a lost link is
back.

Real firmware, the fleet's own broker and TLS. umqtt.simple does the same work beside, in the same
run: a command is a message that it answers, a first message is one that it publishes.
"""

import contextlib
import dataclasses
import json
import queue
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
from bench_agent import BARE, TYPE, Process
from demo import network as demo_network
from paho.mqtt.enums import CallbackAPIVersion
from warden_host import names
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import setup
from warden_host.devices.provision import Order, device_argv, provision
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.fleet import device_tree, pki
from warden_host.fleet.fleet import BrokerSettings, Fleet, Settings
from warden_host.names import AUTHORITY, Topic
from warden_host.service.authority import Authority
from warden_host.store.store import App, Store

APP = "home"
NEAR, FAR = "near00", "far000"  # connected to the broker itself, and through a meter
_WAIT_S = 60.0
_COMMANDS = 200
_CONNECTS = 7
_AWAY_S = 10.0
_FLEET = [f"away{number:02}" for number in range(10)]
_KILLS = 5

_APP = """\
import asyncio
from warden import Device

device = Device.from_board(lambda code, text: print(code, text))

@device.command("ping")
def ping(args):
    return 1

async def main():
    await device.start()
    while True:
        await asyncio.sleep_ms(SLEEP_MS)
        await device.publish("temperature", {"c": 21})

asyncio.run(main())
"""
_QUIET_MS, _BUSY_MS = 1 << 29, 500

# umqtt.simple as it is; its `ussl` is gone from MicroPython, and this one hands it the same TLS.
_BARE = """\
import json, sys, tls
setting = json.loads(sys.stdin.readline())
sys.path.insert(0, setting["umqtt"])

class Tls:
    def wrap_socket(self, raw):
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        context.set_ciphers(("TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",))
        context.load_verify_locations(bytes.fromhex(setting["ca"]))
        return context.wrap_socket(raw, server_hostname="127.0.0.1")

sys.modules["ussl"] = Tls()
from umqtt.simple import MQTTClient

user = setting["user"]
client = MQTTClient(user, "127.0.0.1", setting["port"], user, setting["password"].encode(), 600,
                    ssl=True)
TOPIC = setting["topic"].encode()
client.set_callback(lambda topic, payload: client.publish(TOPIC, payload))
client.connect()
client.publish(TOPIC, b"first")
client.subscribe(setting["commands"].encode(), 1)
print("ready")
while True:
    client.wait_msg()
"""


class Meter:
    """A forwarder that counts: `up` and `down`, bytes since the last connection; `began`: its
    time."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.up = self.down = 0
        self.began = 0.0
        self.flows = threading.Event()
        self.flows.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            self.up = self.down = 0
            self.began = time.monotonic()
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pair in ((near, far, "up"), (far, near, "down")):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flows.wait()
                setattr(self, name, getattr(self, name) + len(data))
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class World:
    """A fleet with its broker and its authority, and what the authority reports."""

    def __init__(self, folder: Path) -> None:
        port, admin_port = demo_network.free_ports(2)
        settings = BrokerSettings(port=port, device_port=port, admin_port=admin_port)
        self.fleet: Fleet = setup.new_fleet(folder / "fleet", Settings(settings, ()))
        self.news: queue.Queue[FleetEvent] = queue.Queue()
        self.password = device_password()
        self.meter = Meter(port)
        plain = self.fleet.settings
        metered = dataclasses.replace(
            plain, broker=dataclasses.replace(plain.broker, device_port=self.meter.port)
        )
        with Store(self.fleet.database) as store:
            setup.add_app(self.fleet, store, App(APP, (TYPE,), ("ping",)))
            for device in (NEAR, FAR, *_FLEET):
                self.fleet.settings = metered if device == FAR else plain
                source = folder / f"{device}.py"
                sleep_ms = _BUSY_MS if device == FAR else _QUIET_MS
                source.write_text(_APP.replace("SLEEP_MS", str(sleep_ms)))
                provision(self.fleet, store, Order(device, TYPE, app_source=source))
        self.fleet.settings = plain
        with registry.opened(self.fleet) as accounts:
            accounts.put(device_account(TYPE, BARE, self.password))

    def run(self, device: str) -> Process:
        return Process(device_argv(device_tree.tree(), self.fleet.simulated(device)))

    def drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self.news.get_nowait()

    def sessions(self, devices: list[str], app: str = APP) -> list[float]:
        """Return the time at which each device's session with `app` began, in their order."""
        found: dict[str, float] = {}
        end = time.monotonic() + _WAIT_S
        while len(found) < len(devices):
            event = self.news.get(timeout=max(0.001, end - time.monotonic()))
            if (event.kind, event.app) == ("session", app) and event.device in devices:
                found.setdefault(event.device, time.monotonic())
        return [found[device] for device in devices]

    @contextlib.contextmanager
    def bare(self, port: int) -> Iterator[Process]:
        settings = {
            "umqtt": str(device_tree.umqtt().parent),
            "ca": pki.load_ca(self.fleet.keys).der().hex(),
            "user": names.device_client(TYPE, BARE),
            "password": self.password,
            "port": port,
            "topic": str(Topic(TYPE, BARE, "evt", "temperature", names.PLAIN)),
            "commands": f"iot-2/type/{TYPE}/id/{BARE}/cmd/#",
        }
        with Process([device_tree.micropython(), "-c", _BARE]) as process:
            process.write_line(json.dumps(settings))
            yield process


class Listener:
    """The application's own client, as far as umqtt.simple is concerned."""

    def __init__(self, fleet: Fleet) -> None:
        self.arrived: queue.Queue[float] = queue.Queue()
        self._up = threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=names.app_client(APP))
        client.username_pw_set(names.app_client(APP), fleet.app_password(APP).decode())
        client.tls_set(str(fleet.keys / "ca.crt"))
        client.on_socket_open = lambda _client, _data, connection: connection.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        client.on_connect = lambda client, *_: client.subscribe(f"iot-2/type/{TYPE}/id/+/evt/#")
        client.on_subscribe = lambda *_: self._up.set()
        client.on_message = lambda *_: self.arrived.put(time.monotonic())
        client.connect("127.0.0.1", fleet.settings.broker.port)
        client.loop_start()
        self._client = client

    def ask(self) -> float:
        """Return the seconds until the answer."""
        topic = Topic(TYPE, BARE, "cmd", "ping", names.PLAIN)
        began = time.monotonic()
        self._client.publish(str(topic), bytes(64), qos=1)
        return self.arrived.get(timeout=_WAIT_S) - began

    def __enter__(self) -> "Listener":
        if not self._up.wait(_WAIT_S):
            raise RuntimeError("the application's client could not subscribe")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def row(name: str, value: float, unit: str, most: float | None = None) -> dict[str, object]:
    target = "" if most is None else f"≤ {most:g}"
    ok = None if most is None else value <= most
    return {"name": name, "value": value, "unit": unit, "target": target, "ok": ok}


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    with contextlib.ExitStack() as stack:
        world = World(stack.enter_context(demo_network.folder()))
        broker = Broker(world.fleet)
        stack.enter_context(broker)
        with Listener(world.fleet) as listener:
            bare_first, bare_up, bare_down = first_messages_bare(world, listener)
            bare = round_trips_bare(world, listener)
        with Authority(world.fleet, world.news.put) as authority:
            sealed = round_trips(world, authority)
            first, up, down = first_messages(world)
            noticed = half_open(world)
            killed = kills(world, broker)
            away = outage(world, broker)
    for share in (0.5, 0.99):
        mine, peer = percentile(sealed, share) * 1000, percentile(bare, share) * 1000
        name = f"command round trip, p{share * 100:g}"
        yield row(name, mine, "ms", None)
        yield row(name, mine / peer, f"× umqtt.simple's {peer:.3g} ms", 0.1)
    yield row("connection to session", 1000 * first, "ms")
    yield row("connection to session", first / bare_first, "× umqtt.simple to first message")
    yield row("bytes up, connection to session", up, f"umqtt.simple {bare_up}")
    yield row("bytes down, connection to session", down, f"umqtt.simple {bare_down}")
    yield row("half-open line noticed while sending", noticed, "s", 8)
    yield row("broker killed and back at once, median", statistics.median(killed), "s", 1.2)
    yield row("broker away 10 s, back after, median", statistics.median(away), "s", 2)
    yield row(f"broker away 10 s, back after, worst of {len(away)}", max(away), "s", 6)


def round_trips_bare(world: World, listener: Listener) -> list[float]:
    with world.bare(world.fleet.settings.broker.port) as process:
        process.wait_line("ready")
        listener.arrived.get(timeout=_WAIT_S)
        return [listener.ask() for _ in range(_COMMANDS)]


def round_trips(world: World, authority: Authority) -> list[float]:
    with world.run(NEAR):
        world.sessions([NEAR])
        times = []
        for _ in range(_COMMANDS):
            began = time.monotonic()
            answer = authority.command(Request(NEAR, "ping", {}, app=APP, timeout_s=5))
            times.append(time.monotonic() - began)
            if answer["reply"].get("result") != 1:
                raise RuntimeError(f"no answer but {answer}")
        return times


def first_messages_bare(world: World, listener: Listener) -> tuple[float, int, int]:
    """Median seconds from the connection to the arrival of the first message; bytes up, down."""
    times = []
    for _ in range(_CONNECTS):
        with world.bare(world.meter.port):
            arrived = listener.arrived.get(timeout=_WAIT_S)
            up, down = world.meter.up, world.meter.down
            times.append(arrived - world.meter.began)
    return statistics.median(times), up, down


def first_messages(world: World) -> tuple[float, int, int]:
    """The same of a device, up to the session with its authority."""
    times = []
    for _ in range(_CONNECTS):
        world.drain()
        with world.run(FAR):
            (arrived,) = world.sessions([FAR], AUTHORITY)
            up, down = world.meter.up, world.meter.down
            times.append(arrived - world.meter.began)
    return statistics.median(times), up, down


def half_open(world: World) -> float:
    """Seconds from the moment at which nothing is forwarded until the device gives the link up."""
    world.drain()
    with world.run(FAR) as process:
        world.sessions([FAR])
        time.sleep(2)
        world.meter.flows.clear()
        began = time.monotonic()
        try:
            process.wait_line("link-timeout")
            return time.monotonic() - began
        finally:
            world.meter.flows.set()


def kills(world: World, broker: Broker) -> list[float]:
    """Seconds from the kill of a broker that starts again at once until the session is back."""
    times = []
    with world.run(NEAR):
        world.sessions([NEAR])
        for _ in range(_KILLS):
            time.sleep(11)  # a device answers a wake once in ten seconds
            world.drain()
            began = time.monotonic()
            broker.stop()
            broker.start()
            times.append(world.sessions([NEAR])[0] - began)
    return times


def outage(world: World, broker: Broker) -> list[float]:
    """Seconds from the return of a broker that was away until each session is back."""
    times: list[float] = []
    with contextlib.ExitStack() as stack:
        for device in _FLEET:
            stack.enter_context(world.run(device))
        world.sessions(_FLEET)
        for _ in range(2):
            time.sleep(11)
            world.drain()
            broker.stop()
            time.sleep(_AWAY_S)
            broker.start()
            began = time.monotonic()
            times += [at - began for at in world.sessions(_FLEET)]
    return times
