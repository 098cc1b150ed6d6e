"""Model a fleet that is updated without a network: sessions, and a small model of the updater."""

import hashlib
import zlib

from host_kit import PeerDevice, topic
from release_kit import TYPE, Maker
from warden_client.protocol.session import Instant
from warden_host.engine.engine import Engine
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.release import manifest_reader
from warden_host.release.opened import open_release
from warden_host.rollout import plan as rollout_plan
from warden_host.rollout.rollouts import Rollouts
from warden_host.store.store import Device, Pair

POLICY = policy.record()
CHUNK = 1024


class Gadget:
    """One device.

    Knobs: there (on and in reach), healthy, reports (its events arrive), loses (numbers of
    commands whose replies are lost), refuses (kind of command → code), breaks (bytes after which
    its download ends), bricks (never returns from a trial), ahead (takes a chunk before it asks).
    """

    def __init__(self, name: str, k: bytes, gate: bool = False) -> None:
        self.name = name
        self.gate = gate
        self.peer = PeerDevice(k, policy.policy_hash(record_of(gate)), device=name)
        self.there = self.healthy = self.reports = True
        self.bricks = self.packs = self.ahead = False
        self.loses: set[int] = set()
        self.refuses: dict[str, str] = {}
        self.breaks: list[int] = []
        self.orders: list[dict] = []
        self.running = self.confirmed = self.failed = 0
        self.status = idle()
        self.plan = None
        self.data = b""
        self.number = 0
        self.restarting = False

    def connect(self, world: "World") -> None:
        world.receive(self, "hello", self.peer.hello())

    def handle(self, world: "World", verb: str, data: bytes) -> None:
        if not self.there:
            return
        if verb == "welcome":
            self.peer.take_welcome(data)
            world.receive(self, "ready", self.peer.ready())
        elif verb == "update":
            _, (number, _, args) = self.peer.open("update", data)
            self.orders.append(args)
            body = self.execute(args)
            if len(self.orders) - 1 not in self.loses:
                world.receive(self, "reply", self.peer.seal("reply", [number, None, body]))

    def execute(self, args: dict) -> dict:
        kind = "envelope" if "envelope" in args else "chunk" if "n" in args else "ask"
        if kind in self.refuses:
            return {"ok": False, "error": self.refuses[kind]}
        if kind == "envelope":
            parsed = manifest_reader.parse(args["envelope"])
            if parsed.sequence <= max(self.confirmed, self.failed):
                return {"ok": False, "error": "old-manifest"}
            if self.plan is None or self.plan.sequence != parsed.sequence:
                self.data = b""
            self.plan = parsed
            self.status = {"state": "Downloading", "reason": "", "sequence": parsed.sequence}
        elif kind == "chunk":
            if args["n"] != self.number or self.status["state"] != "Downloading":
                return {"ok": False, "error": "update-chunk"}
            self.data += args["data"] if "data" in args else zlib.decompress(args["z"], -10)
            self.number += 1
            if self.breaks and len(self.data) >= self.breaks[0]:
                self.breaks.pop(0)
                self.status |= {"state": "Aborted", "reason": "filesystem"}
            elif len(self.data) == self.plan.images[0].size:
                good = hashlib.sha256(self.data).digest() == self.plan.images[0].digest
                self.status |= {"state": "Testing" if good else "Rejected"}
                self.restarting = good
        elif "abort" in args and self.status["state"] == "Downloading":
            self.status |= {"state": "Aborted", "reason": "aborted"}
        more = (
            {}
            if args
            else dict(running=self.running, confirmed=self.confirmed, failed=self.failed)
        )
        if self.packs and not args:
            more["deflate"] = True
        if self.ahead and self.want() is not None:
            more["ahead"] = 1
        return {"ok": True, "result": self.status | {"want": self.want()} | more}

    def want(self):
        if self.status["state"] != "Downloading":
            return None
        at = len(self.data)
        return [self.number, "app", at, min(CHUNK, self.plan.images[0].size - at)]

    def restart(self, world: "World") -> None:
        """Start the trial after the last chunk, and report its result."""
        self.restarting = False
        world.receive(self, "offline", b"{}", fmt="json")
        sequence = self.plan.sequence
        if self.bricks:
            self.there = False
            return
        if self.healthy:
            self.running = self.confirmed = sequence
            state, reason = "Accepted", ""
        else:
            self.failed, state, reason = sequence, "Rejected", "trial-failed"
        self.status, self.plan, self.number = idle(), None, 0
        self.peer.boot += 1
        self.peer.connect = -1
        self.connect(world)
        world.pump()
        if self.reports:
            body = {"state": state, "reason": reason, "sequence": sequence, "want": None}
            world.receive(self, "update", self.peer.seal("update", [0, None, body]))


def idle() -> dict:
    return {"state": "Idle", "reason": "", "sequence": 0, "want": None}


def record_of(gate: bool) -> bytes:
    return policy.record(otp=policy.otp()) if gate else POLICY


class World:
    """A fleet's authority and its devices. Nothing happens but in pump() and pass_time()."""

    def __init__(self, maker: Maker, count: int, gate: bool = False) -> None:
        self.maker = maker
        self.store = maker.store
        self.gadgets: dict[str, Gadget] = {}
        for number in range(count):
            name = f"D{number:02}"
            k = hashlib.sha256(name.encode()).digest()
            pair = Pair(AUTHORITY, k, bytes(32), ())
            with self.store.transaction():
                self.store.add_device(
                    Device(name, TYPE, "UNIX", "sealed", record_of(gate), pairs=(pair,))
                )
            self.gadgets[name] = Gadget(name, k, gate)
        self.now = Instant(1_700_000_000, 50.0)
        self.lines: list[dict] = []
        self.ended: list[dict] = []
        self.boot()

    def boot(self) -> None:
        """Restart the authority: it keeps fleet.db, and nothing in memory."""
        self.sent: list = []
        self.news: list = []
        self.engine = Engine(
            self.store,
            lambda appid, where, data: self.sent.append((where.device, where.verb, data)),
            self.news.append,
            lambda: self.now,
        )
        self.rollouts = Rollouts(self.engine)

    def connect_all(self) -> None:
        for gadget in self.gadgets.values():
            if gadget.there:
                gadget.connect(self)
        self.pump()

    def receive(self, gadget: Gadget, event: str, data: bytes, fmt: str = "cose") -> None:
        self.engine.on_message(AUTHORITY, topic("evt", event, fmt, gadget.name), data, False)

    def pump(self) -> None:
        while self.sent:
            device, verb, data = self.sent.pop(0)
            self.gadgets[device].handle(self, verb, data)

    def settle(self) -> None:
        """Run until nothing changes without time passing."""
        while True:
            self.pump()
            waiting = [gadget for gadget in self.gadgets.values() if gadget.restarting]
            if not waiting and not self.sent:
                return
            for gadget in waiting:
                gadget.restart(self)

    def pass_time(self, seconds: float, step: float = 5.0) -> None:
        end = self.now.steady + seconds
        while self.now.steady < end:
            self.now = Instant(self.now.unix + int(step), self.now.steady + step)
            self.engine.tick()
            self.settle()

    def start(self, name: str = "relay-1.0", devices=None, **plan) -> int:
        """Start a rollout of a release; return its number."""
        opened = open_release(self.maker.fleet, self.store, name)
        made = rollout_plan.Plan(**plan)
        waves = rollout_plan.assign(made.waves, list(devices or self.gadgets))
        number = self.store.add_rollout(name, opened.sequence, made.record(), waves)
        self.rollouts.start(number, opened)
        self.watch(number)
        return number

    def watch(self, number: int) -> None:
        def watcher(line: dict, last: bool) -> None:
            (self.ended if last else self.lines).append(line)

        self.rollouts.watch(number, watcher)

    def resume(self, number: int) -> None:
        record = self.store.rollout(number)
        self.rollouts.start(number, open_release(self.maker.fleet, self.store, record.release))

    def states(self, number: int) -> dict[str, tuple[str, str]]:
        found = self.store.rollout(number).targets
        return {target.device: (target.state, target.reason) for target in found}
