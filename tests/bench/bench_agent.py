"""The whole agent at work: real firmware, real broker with the fleet's own configuration, real
TLS.

What a sealed event costs next to bare umqtt.simple over the same TLS, what a device costs that has
nothing to do, and the smallest heap in which the agent connects and obeys.
"""

import contextlib
import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
from demo import network as demo_network
from measure_kit import Process, plain_process, row, settings_of
from paho.mqtt.enums import CallbackAPIVersion
from warden_build.compiled import HOST_ARCHITECTURE, compile_device
from warden_host import names
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import setup
from warden_host.devices.provision import Order, device_argv, provision
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet import device_tree
from warden_host.fleet.fleet import BrokerSettings, Fleet, Settings
from warden_host.names import AUTHORITY, Topic
from warden_host.service.authority import Authority
from warden_host.store.store import App, Store

REPO = Path(__file__).resolve().parents[2]
# All of one length, so that the topics are too.
TYPE, SEALED, BARE, IDLE, SMALL = "bench", "sealed", "plain0", "idle00", "small0"
APP, EVENT = "home", "temperature"
_WAIT_S = 30.0

# How many messages a burst has. Each takes half a second or more, so that the broker's pace counts
# and not the room in the sockets' buffers.
_BURST = {SEALED: 1500, BARE: 12000}
_ROUNDS = 7
# The policy's keepalive is 60 s, and a ping is due after half of it: each window holds one.
_IDLE_S = 30.0
_WINDOWS = 2
_STEP_KB = 4
_LEAST_KB, _MOST_KB = 64, 192
# Of a size that is too small. A loaded machine must not make a size that fits one of these.
_PATIENCE_S = 20

# Sends as many events as each line of the standard input says. The body takes 64 bytes on the wire
# before it is sealed.
_SEALED_APP = """\
import asyncio, sys, time
from warden import Device

device = Device.from_board(lambda code, text: print(code, text))
BODY = {"v": bytes(59)}

async def main():
    await device.start()
    await asyncio.sleep_ms(500)
    print("ready")
    while True:
        count = int(sys.stdin.readline())
        began = time.ticks_us()
        for _ in range(count):
            await device.publish("temperature", BODY)
        print("sent", time.ticks_diff(time.ticks_us(), began))

asyncio.run(main())
"""

# The same on umqtt.simple.
_BARE = """\
client.connect()
print("ready")
PAYLOAD = bytes(64)
while True:
    count = int(sys.stdin.readline())
    began = time.ticks_us()
    for _ in range(count):
        client.publish(TOPIC, PAYLOAD)
    print("sent", time.ticks_diff(time.ticks_us(), began))
"""

# A ping with arguments asks for the heap in use.
_QUIET_APP = """\
import asyncio, gc
from warden import Device

device = Device.from_board(lambda code, text: print(code, text))

@device.command("ping")
def ping(args):
    gc.collect()
    return gc.mem_alloc() if args else 1

async def main():
    await device.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


class World:
    """A fleet at work, with what its authority hears."""

    def __init__(self, folder: Path) -> None:
        port, admin_port = demo_network.free_ports(2)
        broker = BrokerSettings(port=port, device_port=port, admin_port=admin_port)
        self.fleet: Fleet = setup.new_fleet(folder / "fleet", Settings(broker, ()))
        self.news: queue.Queue[FleetEvent] = queue.Queue()
        self.bare_password = device_password()
        apps = {SEALED: _SEALED_APP, IDLE: _QUIET_APP, SMALL: _QUIET_APP}
        with Store(self.fleet.database) as store:
            setup.add_app(self.fleet, store, App(APP, (TYPE,), ("ping",)))
            for device, text in apps.items():
                source = folder / f"{device}.py"
                source.write_text(text)
                provision(self.fleet, store, Order(device, TYPE, app_source=source))
        with registry.opened(self.fleet) as accounts:
            accounts.put(device_account(TYPE, BARE, self.bare_password))

    def run(self, device: str, heapsize: str = "") -> Process:
        self.drain()
        home = self.fleet.simulated(device)
        return Process(device_argv(device_tree.tree(), home, heapsize=heapsize))

    def drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self.news.get_nowait()

    def wait_sessions(self, device: str, process: Process, seconds: float) -> bool:
        """Whether both sessions of the device come to stand before the time is over, or the
        process."""
        missing = {AUTHORITY, APP}
        end = time.monotonic() + seconds
        while missing and time.monotonic() < end and process.child.poll() is None:
            with contextlib.suppress(queue.Empty):
                news = self.news.get(timeout=0.1)
                if (news.kind, news.device) == ("session", device):
                    missing.discard(news.app)
        return not missing


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(demo_network.folder())
        world = World(folder)
        stack.enter_context(Broker(world.fleet))
        with Authority(world.fleet, world.news.put) as authority:
            idle = idle_share(world, authority)
            heap, live = smallest_heap(world, authority), live_heap(world, authority)
            sealed = stack.enter_context(world.run(SEALED))
            sealed.wait_line("ready")
            if not world.wait_sessions(SEALED, sealed, _WAIT_S):
                raise RuntimeError("the sealed device has no session with its application")
        # The authority's work for each event is not what is measured, and it would take the
        # device's second core: from here on another client of the application counts what the
        # broker delivers. The device's sessions outlive that.
        ratio, cost = publish_ratio(world, stack, sealed)
    unit = "% of umqtt.simple's rate"
    yield row("sealed publish, 64 B, QoS 0", ratio, unit, least=75)
    yield row("sealed publish, processor time", cost, "× umqtt.simple's")
    yield row("idle device", idle, "% of a core", most=0.02)
    unit = "KB of 64-bit heap"
    yield row("whole agent connected, TLS not counted", heap, unit, most=128)
    yield row("heap in use with both sessions up, TLS not counted", live / 1024, unit)


# -- publishing ---------------------------------------------------------------------------------


class Counter:
    """The application's own client, which counts what arrives from each device."""

    def __init__(self, fleet: Fleet) -> None:
        self.arrived = {SEALED: 0, BARE: 0}
        self._up = threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=names.app_client(APP))
        client.username_pw_set(names.app_client(APP), fleet.app_password(APP).decode())
        client.tls_set(str(fleet.keys / "ca.crt"))
        client.on_connect = self._on_connect
        client.on_subscribe = lambda *_: self._up.set()
        for device in self.arrived:
            client.message_callback_add(topic(device), self._counts(device))
        client.connect("127.0.0.1", fleet.settings.broker.port)
        client.loop_start()
        self._client = client

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(f"iot-2/type/{TYPE}/id/+/evt/#")

    def _counts(self, device: str) -> Callable[..., None]:
        def count(*_: object) -> None:
            self.arrived[device] += 1

        return count

    def settled(self, device: str, wanted: int) -> int:
        """How many arrived: all that are wanted, or as many as came until nothing more did for a
        second."""
        before, since = -1, time.monotonic()
        while (count := self.arrived[device]) < wanted and time.monotonic() - since < 1:
            if count != before:
                before, since = count, time.monotonic()
            time.sleep(0.01)
        return count

    def __enter__(self) -> "Counter":
        if not self._up.wait(_WAIT_S):
            raise RuntimeError("the application's client could not subscribe")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def topic(device: str) -> str:
    fmt = names.SEALED if device == SEALED else names.PLAIN
    return str(Topic(TYPE, device, "evt", EVENT, fmt))


def publish_ratio(
    world: World, stack: contextlib.ExitStack, sealed: Process
) -> tuple[float, float]:
    """The sealed device's rate in percent of the bare client's, and its processor time for a
    message as a multiple."""
    bare = stack.enter_context(bare_client(world))
    counter = stack.enter_context(Counter(world.fleet))
    rates: list[float] = []
    costs: list[float] = []
    for turn in range(_ROUNDS + 1):
        figures = {}
        # Each goes first in every other round.
        pair = [(SEALED, sealed), (BARE, bare)]
        for device, process in pair if turn % 2 else reversed(pair):
            figures[device] = burst(counter, device, process)
        if not turn:
            continue  # the first one warms up
        rates.append(100 * figures[SEALED][0] / figures[BARE][0])
        costs.append(figures[SEALED][1] / figures[BARE][1])
    return statistics.median(rates), statistics.median(costs)


def burst(counter: Counter, device: str, process: Process) -> tuple[float, float]:
    """(messages a second, processor time a message in ns). Only what arrived counts."""
    before, cpu = counter.arrived[device], process.cpu_ns()
    wanted = _BURST[device]
    process.write_line(str(wanted))
    took_us = int(process.wait_line("sent"))
    cpu = process.cpu_ns() - cpu
    arrived = counter.settled(device, before + wanted) - before
    if not arrived:
        raise RuntimeError(f"nothing of what {device} sent arrived")
    return arrived * 1e6 / took_us, cpu / arrived


@contextlib.contextmanager
def bare_client(world: World) -> Iterator[Process]:
    port = world.fleet.settings.broker.port
    settings = settings_of(world.fleet, TYPE, BARE, world.bare_password, port, topic(BARE))
    with plain_process(_BARE, settings) as process:
        process.wait_line("ready")
        yield process


# -- doing nothing ------------------------------------------------------------------------------


def idle_share(world: World, authority: Authority) -> float:
    """Percent of one core: the median of the windows."""
    with world.run(IDLE) as process:
        if not answers_command(world, authority, IDLE, process, _WAIT_S):
            raise RuntimeError("the idle device does not obey")
        time.sleep(2)  # what a start leaves behind is over
        shares = []
        for _ in range(_WINDOWS):
            cpu, began = process.cpu_ns(), time.monotonic_ns()
            time.sleep(_IDLE_S)
            shares.append(100 * (process.cpu_ns() - cpu) / (time.monotonic_ns() - began))
        if authority.ask(lambda engine: engine.online()).get(IDLE) is None:
            raise RuntimeError("the idle device went offline")
    return statistics.median(shares)


def answers_command(
    world: World, authority: Authority, device: str, process: Process, seconds: float
) -> bool:
    """Whether both sessions come to stand, and a command is obeyed then."""
    if not world.wait_sessions(device, process, seconds):
        return False
    try:
        answer = authority.command(Request(device, "ping", {}, app=APP, timeout_s=5))
    except HostError:
        return False
    return bool(answer["ok"]) and answer["reply"].get("result") == 1


# -- memory -------------------------------------------------------------------------------------


def smallest_heap(
    world: World, authority: Authority, architecture: str = HOST_ARCHITECTURE
) -> int:
    """KB of the smallest heap, in steps, in which the agent as boards run it comes to work.

    The unix port keeps TLS outside this heap; a board needs about 23 KB more for it.
    """
    compile_device(world.fleet.simulated(SMALL) / "root", architecture)

    def works(kilobytes: int) -> bool:
        with world.run(SMALL, f"{kilobytes}k") as process:
            return answers_command(world, authority, SMALL, process, _PATIENCE_S)

    low, high = _LEAST_KB // _STEP_KB, _MOST_KB // _STEP_KB
    if not works(high * _STEP_KB):
        raise RuntimeError(f"the agent does not work in {_MOST_KB} KB")
    while high - low > 1:
        middle = (low + high) // 2
        # Where it just fits, luck has a part in it: a size counts that works twice.
        if works(middle * _STEP_KB) and works(middle * _STEP_KB):
            high = middle
        else:
            low = middle
    return high * _STEP_KB


def live_heap(world: World, authority: Authority) -> int:
    """Return the bytes in use with both sessions up, after smallest_heap() compiled the device."""
    with world.run(SMALL, "1m") as process:
        if not world.wait_sessions(SMALL, process, _WAIT_S):
            raise RuntimeError("the device has no sessions")
        answer = authority.command(Request(SMALL, "ping", {"heap": 1}, app=APP))
        return int(answer["reply"]["result"])
