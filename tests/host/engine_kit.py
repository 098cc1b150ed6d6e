"""Build an engine without a network, with its store, its messages and its events."""

from host_kit import DEVICE, PeerDevice, topic
from warden_client.protocol.session import Instant
from warden_host.engine import commands
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.names import Topic
from warden_host.protocol import policy
from warden_host.store.store import Device, Pair, Store

POLICY = policy.record()
K = {"authority": b"a" * 32, "lights": b"l" * 32}
UID = {"authority": b"A" * 32, "lights": b"L" * 32}


def pairs(*appids: str) -> tuple[Pair, ...]:
    return tuple(Pair(appid, K[appid], UID[appid], ("set_relay",)) for appid in appids)


SEALED = Device(DEVICE, "relay", "UNIX", "sealed", POLICY, pairs=pairs("authority", "lights"))
PLAIN = Device(
    DEVICE, "relay", "UNIX", "plain", policy.record(mode="plain"), pairs=pairs("authority")
)


class Stage:
    """An engine with its store, the messages it published and the events it announced."""

    def __init__(self, folder, device: Device = SEALED) -> None:
        self.folder = folder
        self.store = Store(folder / "fleet.db")
        if self.store.find(device.device) is None:
            self.store.add_device(device)
        self.sent: list[tuple[str, Topic, bytes]] = []
        self.news: list[FleetEvent] = []
        self.now = Instant(1_700_000_000, 50.0)
        self.engine = Engine(
            self.store,
            lambda appid, where, data: self.sent.append((appid, where, data)),
            self.news.append,
            lambda: self.now,
        )

    def receive(
        self, event: str, data: bytes, appid="authority", fmt="cose", retain=False
    ) -> None:
        self.engine.on_message(appid, topic("evt", event, fmt), data, retain)

    def last(self, command: str) -> bytes:
        """Return the newest message of this command."""
        return next(data for _, where, data in reversed(self.sent) if where.verb == command)

    def handshake(self, peer: PeerDevice, appid: str = "authority") -> None:
        self.receive("hello", peer.hello(), appid)
        peer.take_welcome(self.last("welcome"))
        self.receive("ready", peer.ready(), appid)
        assert peer.open("ack", self.last("ack"))[0] == 0

    def codes(self) -> list[str]:
        return [news.code for news in self.news if news.code]

    def pass_time(self, seconds: float) -> None:
        self.now = Instant(self.now.unix + int(seconds), self.now.steady + seconds)
        self.engine.tick()


def run(stage: Stage, request: Request):
    """Start a command; return the list that gets its result."""
    results: list = []
    stage.engine.start(commands.job(stage.engine, request), results.append)
    if results and isinstance(results[0], Exception):
        raise results[0]
    return results


def reply(stage: Stage, peer: PeerDevice, number: int, body=None) -> None:
    stage.receive("reply", peer.seal("reply", [number, None, body or {"ok": True, "result": 1}]))


def report(stage: Stage, peer: PeerDevice, code: str) -> None:
    body = {"code": code, "n": 1, "at": "set_relay"}
    stage.receive("incident", peer.seal("incident", [0, None, body]))
