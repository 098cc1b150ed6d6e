"""Measure what the network costs: round trips, connecting, bytes, and how soon a lost link is
back.

Real firmware, the fleet's own broker and TLS. umqtt.simple does the same work beside, in the same
run: a command is a message that it answers, a first message is one that it publishes.
"""

import contextlib
import dataclasses
import queue
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
from bench_agent import BARE, TYPE
from demo import network as demo_network
from measure_kit import Process, figure, plain_process, row, settings_of
from paho.mqtt.enums import CallbackAPIVersion
from warden_host import names
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import setup
from warden_host.devices.provision import Order, device_argv, provision
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.fleet import device_tree
from warden_host.fleet.fleet import BrokerSettings, Fleet, Settings
from warden_host.names import AUTHORITY, Topic
from warden_host.service.authority import Authority
from warden_host.store.store import App, Store

APP = "home"
NEAR, FAR = "near00", "far000"  # connected to the broker itself, and through a meter
# Through the meter too, and with one receiver of its messages, as a plain client has: the
# authority alone. Its topics are as long as those of the others.
LONE, LONE_TYPE = "lone00", "solos"
_KEEPALIVE_S = 20  # of that one
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

# On umqtt.simple: a first message, then each command is answered with its own payload.
_BARE = """\
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
            for device in (NEAR, FAR, LONE, *_FLEET):
                self.fleet.settings = metered if device in (FAR, LONE) else plain
                source = folder / f"{device}.py"
                sleep_ms = _BUSY_MS if device == FAR else _QUIET_MS
                source.write_text(_APP.replace("SLEEP_MS", str(sleep_ms)))
                type_, limits = TYPE, {}
                if device == LONE:
                    type_, limits = LONE_TYPE, {"keepalive_s": _KEEPALIVE_S}
                provision(
                    self.fleet, store, Order(device, type_, app_source=source, limits=limits)
                )
        self.fleet.settings = plain
        with registry.opened(self.fleet) as accounts:
            accounts.put(device_account(TYPE, BARE, self.password))

    def run(self, device: str) -> Process:
        return Process(device_argv(device_tree.tree(), self.fleet.simulated(device)))

    def drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self.news.get_nowait()

    def all_sessions(self, device: str, apps: tuple[str, ...]) -> float:
        """Return the time at which the last of the device's sessions with these began."""
        missing = set(apps)
        while True:
            event = self.news.get(timeout=_WAIT_S)
            if event.kind == "session" and event.device == device:
                missing.discard(event.app)
                if not missing:
                    return time.monotonic()

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
        topic = str(Topic(TYPE, BARE, "evt", "temperature", names.PLAIN))
        settings = settings_of(self.fleet, TYPE, BARE, self.password, port, topic)
        with plain_process(_BARE, settings) as process:
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
            both, both_up, both_down = first_messages(world, FAR, (AUTHORITY, APP))
            noticed = half_open(world, FAR, APP)
            quiet = half_open(world, LONE, AUTHORITY)
            killed = kills(world, broker)
            away = outage(world, broker)
    for share in (0.5, 0.99):
        mine, peer = percentile(sealed, share) * 1000, percentile(bare, share) * 1000
        name = f"command round trip, p{share * 100:g}"
        times = f"umqtt.simple {figure(peer)} ms"
        yield row(name, mine, "ms", peer=times)
        yield row(name, mine / peer, "× umqtt.simple's", most=0.1, peer=times)
    times = f"umqtt.simple {figure(1000 * bare_first)} ms"
    yield row("connection to first sealed message", 1000 * first, "ms", peer=times)
    share = first / bare_first
    yield row(
        "connection to first sealed message", share, "× umqtt.simple's", most=0.9, peer=times
    )
    name = "connection to first sealed message"
    yield row(f"bytes up, {name}", up, "bytes", peer=f"umqtt.simple {bare_up}")
    yield row(f"bytes down, {name}", down, "bytes", peer=f"umqtt.simple {bare_down}")
    name = "connection to two sessions"
    yield row(name, 1000 * both, "ms")
    yield row(f"bytes up and down, {name}", both_up + both_down, "bytes")
    yield row("half-open line noticed while sending", noticed, "s", most=8)
    name = f"half-open line noticed, nothing sent, keepalive {_KEEPALIVE_S} s"
    yield row(name, quiet, "s", most=_KEEPALIVE_S)
    yield row("broker killed and back at once, median", statistics.median(killed), "s", most=1.2)
    yield row("broker away 10 s, back after, median", statistics.median(away), "s", most=2)
    yield row(f"broker away 10 s, back after, worst of {len(away)}", max(away), "s", most=6)


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
    """Medians: seconds from the connection to the arrival of the first message, bytes up, down."""
    found = []
    for _ in range(_CONNECTS):
        with world.bare(world.meter.port):
            arrived = listener.arrived.get(timeout=_WAIT_S)
            found.append((arrived - world.meter.began, world.meter.up, world.meter.down))
    return _medians(found)


def first_messages(
    world: World, device: str = LONE, apps: tuple[str, ...] = (AUTHORITY,)
) -> tuple[float, int, int]:
    """The same of a device of ours, up to its sessions with these applications.

    The ready, its first sealed message, begins a session.
    """
    found = []
    for _ in range(_CONNECTS):
        world.drain()
        with world.run(device):
            arrived = world.all_sessions(device, apps)
            found.append((arrived - world.meter.began, world.meter.up, world.meter.down))
    return _medians(found)


def _medians(found: list[tuple[float, int, int]]) -> tuple[float, int, int]:
    times, ups, downs = zip(*found, strict=True)
    return statistics.median(times), int(statistics.median(ups)), int(statistics.median(downs))


def half_open(world: World, device: str, app: str) -> float:
    """Seconds from the moment at which nothing is forwarded until the device gives the link up.

    app: the one whose session is waited for first.
    """
    world.drain()
    with world.run(device) as process:
        world.sessions([device], app)
        time.sleep(2)
        world.meter.flows.clear()
        began = time.monotonic()
        try:
            process.wait_line("link-timeout")
            return time.monotonic() - began
        finally:
            world.meter.flows.set()


def kills(world: World, broker: Broker, count: int = _KILLS) -> list[float]:
    """Seconds from the kill of a broker that starts again at once until the session is back."""
    times = []
    with world.run(NEAR):
        world.sessions([NEAR])
        for _ in range(count):
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
