"""The place of every attack: a real broker, the whole service, and honest devices beside it."""

import contextlib
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import process_kit
from attack.raw_client import RawClient
from engine_kit import PLAIN, SEALED, K, pairs
from fleet_kit import Journal
from host_kit import PeerDevice, new_fleet
from warden_host import names
from warden_host.broker.accounts import (
    app_account,
    device_account,
    device_password,
    machine_password,
)
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.broker import LOG
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.service.run import serving
from warden_host.store.store import Store

TESTS = Path(__file__).resolve().parents[1]
TYPE = "relay"
PATIENCE_S = process_kit.PATIENCE_S
_PAUSE_S = 0.02  # between two commands


@dataclass
class Notice:
    """What honest devices noticed. lost: commands and events; latencies in seconds."""

    quiet: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    lost: int = 0
    reconnected: int = 0

    @property
    def ratio(self) -> float:
        """Return the 99th percentile of the latency during the attack over that before it."""
        if len(self.quiet) < 2 or len(self.during) < 2:
            return 1.0
        return percentile(self.during) / percentile(self.quiet)


def percentile(times: list[float], hundredth: int = 99) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[hundredth - 1]


class Arena:
    """One fleet that is served. whole: take the time to measure; else be quick.

    settings: text to append to warden.toml.
    """

    def __init__(self, folder: Path, whole: bool = False, honest: int = 3, settings: str = ""):
        self.whole = whole
        self.fleet = new_fleet(folder)
        with (self.fleet.root / CONFIG).open("a") as file:
            file.write(settings)
        self.fleet = Fleet(self.fleet.root)
        self.port = self.fleet.settings.broker.port
        self.ca = self.fleet.keys / "ca.crt"
        self.news = Journal()
        self.passwords: dict[str, str] = {}
        self.honest_names = [f"H{number}" for number in range(honest)]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Arena":
        with self._stack:
            for name in self.honest_names:
                self.add_device(name)
            self.service = self._stack.enter_context(serving(self.fleet, self.news.add))
            self.authority = self.service.authority
            self._process = self._stack.enter_context(
                child("attack.honest", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            mine = {name: self.passwords[name] for name in self.honest_names}
            self._tell(json.dumps({"fleet": str(self.fleet.root), "devices": mine}))
            for name in self.honest_names:
                self.command(name)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # Devices

    def add_device(self, name: str, plain: bool = False) -> str:
        """Add a device and its account; return its password."""
        record = replace(PLAIN if plain else SEALED, device=name, pairs=pairs(AUTHORITY))
        password = self.passwords[name] = device_password()
        with Store(self.fleet.database) as store, registry.opened(self.fleet) as accounts:
            accounts.put(device_account(TYPE, name, password))
            store.add_device(record)
        if hasattr(self, "authority"):
            self.authority.ask(lambda engine: engine.unload(name))
            self.authority.reload()
        return password

    def add_app(self, user: str) -> str:
        """Add an account of an application that this fleet does not serve; return its password."""
        password = machine_password()
        appid = user.partition(":")[2]
        with registry.opened(self.fleet) as accounts:
            accounts.put(app_account(appid, (TYPE,), password))
        return password

    def peer(self, name: str) -> PeerDevice:
        """Return a device's end of the protocol: what knows its keys."""
        return PeerDevice(K[AUTHORITY], policy.policy_hash(SEALED.policy), device=name)

    def client(self, name: str = "", password: str | None = None) -> RawClient:
        """Return a connection to the broker, logged in as the device if it is named."""
        made = RawClient(self.ca, self.port)
        if name:
            given = self.passwords[name] if password is None else password
            if made.log_in(names.device_client(TYPE, name), given):
                made.close()
                raise ConnectionError(f"{name} was refused")
        return made

    # Honest devices

    def command(self, device: str) -> float:
        """Give a command and return the seconds until its reply. Raises HostError."""
        began = time.perf_counter()
        request = Request(device, "set_relay", {"on": 1}, timeout_s=PATIENCE_S)
        if self.authority.command(request)["ok"] is not True:
            raise AssertionError(f"{device} did not obey")
        return time.perf_counter() - began

    @contextlib.contextmanager
    def honest(self) -> Iterator[Notice]:
        """Have honest devices work while the block runs; yield what they notice, once it ended."""
        notice = Notice()
        before = self._figures()
        count = 150 if self.whole else 5
        notice.quiet = [self._timed(number) for number in range(count)]
        stop = threading.Event()
        failed: list[Exception] = []

        def work() -> None:
            number = 0
            while not stop.is_set() or number < count:
                try:
                    notice.during.append(self._timed(number))
                except Exception as error:  # counted, and shown
                    failed.append(error)
                number += 1

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield notice
        finally:
            stop.set()
            thread.join()
        after = self._figures()
        notice.reconnected = sum(after[name][1] - before[name][1] for name in after)
        notice.lost = len(failed) + self._lost_events(after)
        for error in failed[:3]:
            print(f"    {error}", file=sys.stderr)

    def _timed(self, number: int) -> float:
        time.sleep(_PAUSE_S)
        return self.command(self.honest_names[number % len(self.honest_names)])

    def _lost_events(self, sent: dict[str, list[int]]) -> int:
        """Return how many of these events the authority never stored."""

        def missing() -> int:
            self.authority.ask(Engine.write_events, PATIENCE_S)
            with Store(self.fleet.database) as store:
                return sum(
                    max(0, count - sum(store.event_counts(name, 0.0).values()))
                    for name, (count, _) in sent.items()
                )

        deadline = time.monotonic() + PATIENCE_S
        while missing() and time.monotonic() < deadline:
            time.sleep(0.2)
        return missing()

    def _figures(self) -> dict[str, list[int]]:
        figures: dict[str, list[int]] = self._tell("figures")
        return figures

    def _tell(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    # What the fleet's owner sees

    def logged(self, user: str) -> str:
        """Return "the broker's log" once that tells that a client was cut off, or hung up.

        "" where nothing comes. user: its user name.
        """
        deadline = time.monotonic() + PATIENCE_S
        name = re.escape(user)
        end = re.compile(
            rf"Client {name}(?: \[[^]]+\])? (?:disconnected[,:]|closed|has exceeded)|"
            rf"Bad socket read/write on client {name}:"  # what 2.0 says of a retained message
        )
        while time.monotonic() < deadline:
            text = (self.fleet.broker / LOG).read_text(errors="replace")
            if end.search(text):
                return "the broker's log"
            time.sleep(0.05)
        return ""

    def wait_seen(
        self, fits: Callable[[FleetEvent], bool], began: float, seconds: float = PATIENCE_S
    ) -> tuple[str, float | None]:
        """Return (code or kind, seconds since began) of the first event that fits, or ("", None).

        began: unix seconds.
        """
        deadline = time.monotonic() + seconds
        while True:
            for event in self.news.all():
                if event.time >= began - 0.001 and fits(event):
                    return event.code or event.kind, event.time - began
            if time.monotonic() > deadline:
                return "", None
            time.sleep(0.01)


def start_session(client: RawClient, peer: PeerDevice, seconds: float = PATIENCE_S) -> None:
    """Bring up the device's session over its connection, as the firmware does.

    seconds: without an answer. Raises ConnectionError, TimeoutError.
    """
    client.subscribe(f"{names.topic_base(TYPE, peer.device)}/cmd/#")
    client.publish(peer.topic("evt", "hello"), peer.hello())
    woken = False
    while True:
        got = client.read_packet(seconds)
        if got is None:
            raise ConnectionError("the connection ended before the session was up")
        first, body = got
        length = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        if first & 0xF0 != 0x30:
            continue
        if first & 0x06:
            client.socket.sendall(b"\x40\x02" + rest[:2])
            rest = rest[2:]
        verb = topic.split("/")[6]
        if verb == "welcome":
            peer.take_welcome(rest)
            client.publish(peer.topic("evt", "ready"), peer.ready())
        elif verb == "wake" and not woken:
            woken = True  # a device answers one in 10 s
            client.publish(peer.topic("evt", "hello"), peer.hello(wake=peer.wake_nonce(rest)))
        elif verb == "ack":
            return


def child(module: str, **more: Any) -> contextlib.AbstractContextManager[Any]:
    """Run a module of this package as a process of its own until the context ends."""
    paths = [TESTS, TESTS / "host", TESTS / "e2e", TESTS.parent / "tools"]
    environment = {"PYTHONPATH": ":".join(map(str, paths)), "PATH": "/usr/bin:/bin"}
    return process_kit.child([sys.executable, "-m", module], env=environment, **more)
