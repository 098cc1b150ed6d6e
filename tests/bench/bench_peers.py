"""Measure other MQTT clients for MicroPython beside a device of ours: same broker, TLS, verified.

PEERS names a folder with checkouts of them, which nothing here fetches: `micropython-mqtt` has
mqtt_as, `ChuMicro` has chumicro-mqtt. umqtt.simple is installed by `make setup`. Each runs from
its own sources on the unix port; what they need of a board (a radio that is always connected) is
given to them here. Each publishes a first message, then answers every command with a message.
"""

import contextlib
import json
import os
import queue
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import bench_wire as wire
from bench_agent import BARE, TYPE
from demo import network as demo_network
from measure_kit import LeftOut, Process, figure, row, settings_of
from warden_host import names
from warden_host.broker.mosquitto.broker import Broker
from warden_host.fleet import device_tree
from warden_host.names import Topic
from warden_host.service.authority import Authority

_CONNECTS = 5
_COMMANDS = 100
_KILLS = 2
_ASK_S = 0.05
_WAIT_S = 60.0

HEAD = """\
import json, sys, tls
setting = json.loads(sys.stdin.readline())
sys.path[:0] = setting["path"]
TOPIC = setting["topic"]
"""
PROGRAMS = {
    "mqtt_as": """\
import asyncio, machine

class Radio:
    def __init__(self, _): pass
    def active(self, _): pass
    def connect(self, *_): pass
    def disconnect(self): pass
    def isconnected(self): return True

class Network:
    STA_IF = 0
    WLAN = Radio

class Machine:
    def unique_id(): return b"12345678"

sys.modules["network"], sys.modules["machine"] = Network, Machine
from mqtt_as import MQTTClient, config

async def connected(client):
    await client.subscribe(setting["commands"], 1)
    await client.publish(TOPIC, b"first")

async def main():
    config.update({
        "server": "127.0.0.1", "port": setting["port"], "client_id": setting["user"],
        "user": setting["user"], "password": setting["password"].encode(), "ssl": True,
        "ssl_params": {"cadata": bytes.fromhex(setting["ca"]), "cert_reqs": tls.CERT_REQUIRED,
                       "server_hostname": "127.0.0.1"},
        "subs_cb": lambda _, data, *__: asyncio.create_task(client.publish(TOPIC, data)),
        "connect_coro": connected,
    })
    client = MQTTClient(config)
    await client.connect(quick=True)
    await asyncio.Event().wait()

asyncio.run(main())
""",
    "chumicro-mqtt": """\
from chumicro_mqtt import MQTTClient
from chumicro_runner.core import Runner
from chumicro_sockets.sockets_factory import fixed_connector_factory

context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.verify_mode = tls.CERT_REQUIRED
context.load_verify_locations(bytes.fromhex(setting["ca"]))
factory = fixed_connector_factory("127.0.0.1", setting["port"], ssl_context=context)
client = MQTTClient(transport_factory=factory, client_id=setting["user"],
                    username=setting["user"], password=setting["password"])
client.on_message = lambda _, data: client.publish(TOPIC, bytes(data))
client.subscribe(setting["commands"], 1)
client.publish(TOPIC, b"first")
client.connect()
runner = Runner()
runner.add(client)
runner.run_until()
""",
}
# Each peer's folders below PEERS that a board would have on its path.
_PATHS = {
    "mqtt_as": ["micropython-mqtt"],
    "chumicro-mqtt": [
        f"ChuMicro/libraries/{name}/src"
        for name in ("mqtt", "sockets", "timing", "runner", "compat")
    ],
}


class _Asker(wire.Listener):
    """The application's client, which finds out when a device answers again."""

    def back(self) -> float:
        """Ask until an answer comes; return the time of that."""
        self._client.reconnect_delay_set(0.1, 0.1)
        topic = str(Topic(TYPE, BARE, "cmd", "ping", names.PLAIN))
        end = time.monotonic() + _WAIT_S
        while time.monotonic() < end:
            self._client.publish(topic, b"again", qos=0)
            with contextlib.suppress(queue.Empty):
                return self.arrived.get(timeout=_ASK_S)
        raise RuntimeError("the peer does not come back")

    def drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self.arrived.get(timeout=0.2)


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    peers = Path(os.environ.get("PEERS") or "none")
    if not peers.is_dir():
        raise LeftOut("PEERS names no folder with checkouts of other MQTT clients")
    found = {name: peers / paths[0] for name, paths in _PATHS.items()}
    with contextlib.ExitStack() as stack:
        world = wire.World(stack.enter_context(demo_network.folder()))
        broker = Broker(world.fleet)
        stack.enter_context(broker)
        with _Asker(world.fleet) as asker:
            times = wire.round_trips_bare(world, asker)
            first = wire.first_messages_bare(world, asker)
        figures = {"umqtt.simple": (first, times, None)}
        for name in (name for name, place in found.items() if place.is_dir()):
            with _Asker(world.fleet) as asker:
                figures[name] = _measure_peer(world, broker, asker, name, peers)
        with Authority(world.fleet, world.news.put) as authority:
            times = wire.round_trips(world, authority)
            figures["Warden"] = (
                wire.first_messages(world),
                times,
                wire.kills(world, broker, _KILLS),
            )
    yield from _rows(figures)


_Figures = tuple[tuple[float, int, int], list[float], list[float] | None]


def _rows(figures: dict[str, _Figures]) -> Iterator[dict[str, object]]:
    """Yield what is measured of each: ours with its target against the best peer."""
    (first, up, down), times, killed = figures.pop("Warden")
    others = figures.items()
    seconds = {name: peer[0][0] for name, peer in others}
    yield _beside("connection to first message", "ms", first, seconds, 0.9, 1000)
    for way, ours, at in (("up", up, 1), ("down", down, 2)):
        size = {name: float(peer[0][at]) for name, peer in others}
        yield _beside(f"bytes {way}, connection to first message", "B", float(ours), size, 1.5)
    for share in (0.5, 0.99):
        trips = {name: wire.percentile(peer[1], share) for name, peer in others}
        name = f"command round trip, p{share * 100:g}"
        yield _beside(name, "ms", wire.percentile(times, share), trips, 1.0, 1000)
    back = {name: statistics.median(peer[2]) for name, peer in others if peer[2]}
    if back and killed:
        name = "broker killed and back at once, median"
        yield _beside(name, "s", statistics.median(killed), back, 1.0)


def _beside(
    name: str,
    unit: str,
    ours: float,
    peers: dict[str, float],
    share: float,
    scale: float = 1.0,
) -> dict[str, object]:
    """Return a row: our figure, and as its target this share of the best peer's."""
    texts = [f"{peer} {figure(value * scale)}" for peer, value in peers.items()]
    most = float(f"{min(peers.values()) * scale * share:.3g}")
    return row(f"beside peers: {name}", ours * scale, unit, most=most, peer=", ".join(texts))


def _measure_peer(
    world: wire.World, broker: Broker, asker: _Asker, name: str, peers: Path
) -> _Figures:
    firsts, up, down = [], 0, 0
    for _ in range(_CONNECTS):
        asker.drain()
        with _peer(world, name, peers, world.meter.port):
            arrived = asker.arrived.get(timeout=_WAIT_S)
            up, down = world.meter.up, world.meter.down
            firsts.append(arrived - world.meter.began)
    asker.drain()
    killed = []
    with _peer(world, name, peers, world.fleet.settings.broker.port):
        asker.back()
        asker.drain()
        times = [asker.ask() for _ in range(_COMMANDS)]
        for _ in range(_KILLS):
            asker.drain()
            began = time.monotonic()
            broker.stop()
            broker.start()
            killed.append(asker.back() - began)
            time.sleep(2)
    return (statistics.median(firsts), up, down), times, killed


@contextlib.contextmanager
def _peer(world: wire.World, name: str, peers: Path, port: int) -> Iterator[Process]:
    topic = str(Topic(TYPE, BARE, "evt", "temperature", names.PLAIN))
    settings = settings_of(world.fleet, TYPE, BARE, world.password, port, topic)
    settings["path"] = [str(peers / path) for path in _PATHS[name]]
    with Process([device_tree.micropython(), "-c", HEAD + PROGRAMS[name]]) as process:
        process.write_line(json.dumps(settings))
        try:
            yield process
        except (queue.Empty, RuntimeError) as error:
            said = [process.said.get_nowait() for _ in range(process.said.qsize())]
            raise RuntimeError(f"{name}: {error!r}: " + " | ".join(said[-6:])) from None
