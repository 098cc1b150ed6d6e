"""Measure how soon devices are back behind a network that loses packets, beside their peers.

SILENCES devices of ours (none without it: it takes some minutes) and as many of mqtt_as and
umqtt.robust run at once in a network namespace of their own, each behind a port of its own, over
verified TLS, and publish four times a second. Lost is what TCP sends: the kernel's traffic control
takes the packets of a port, or of a connection, away, both directions, so that retransmissions
and their ever longer pauses are part of it. "Back" is the first message that the broker passes on,
from when packets pass again, or from when a connection was made half-open.

It needs root (`unshare -n`, `tc`). PEERS: as bench_comeback.py.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "examples")]

import bench_comeback as comeback  # noqa: E402  (the path must be set first)
from bench_agent import TYPE  # noqa: E402
from demo import network as demo_network  # noqa: E402
from measure_kit import LeftOut, Process  # noqa: E402
from warden_host.broker.accounts import device_account  # noqa: E402
from warden_host.broker.mosquitto import registry  # noqa: E402
from warden_host.broker.mosquitto.broker import Broker  # noqa: E402
from warden_host.devices.provision import Order, device_argv, provision  # noqa: E402
from warden_host.fleet import device_tree  # noqa: E402
from warden_host.service.authority import Authority  # noqa: E402
from warden_host.store.store import Store  # noqa: E402

_KINDS = (comeback.OURS, comeback.AS, comeback.ROBUST)
_SILENCE_S = 60.0
_MOST_S = 150.0  # later is never
_GAP_S = 2.0  # between two of the devices: they are not to share one moment
_FULL_S = 300.0  # for all of them to connect at first


class Loss:
    """The packets of a port that this namespace's loopback loses; see tc-u32(8)."""

    def __init__(self) -> None:
        self._next = 0
        for command in (
            "ip link set lo up",
            "ip link add sink0 type veth peer name sink1",
            "ip link set sink0 up",
            "ip link set sink1 up",
            "tc qdisc add dev lo clsact",
        ):
            subprocess.run(command.split(), check=True)
        self._lock = threading.Lock()

    def begin(self, port: int) -> list[int]:
        """Lose the packets from and to this port; return what end() takes."""
        made = []
        for way in ("sport", "dport"):
            with self._lock:
                self._next += 1
                made.append(self._next)
            rule = f"u32 match ip {way} {port} 0xffff action mirred egress redirect dev sink0"
            head = f"tc filter add dev lo egress protocol ip prio {made[-1]} "
            subprocess.run((head + rule).split(), check=True)
        return made

    def end(self, made: list[int]) -> None:
        """Let the packets pass again."""
        for prio in made:
            subprocess.run(f"tc filter del dev lo egress prio {prio}".split(), check=True)


class Way(comeback.Way):
    """A way to the broker that knows the ports of the connections which it took."""

    def __init__(self, target: int) -> None:
        self.near: list[int] = []
        super().__init__(target)

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if source.getsockname()[1] == self.port:
                self.near.append(source.getpeername()[1])
        super().forward(source, sink)


class Crowd(comeback.World):
    """A broker, and so many devices of each kind, each behind a way of its own."""

    def __init__(self, folder: Path, peers: Path, count: int) -> None:
        super().__init__(folder, peers)
        port = self.fleet.settings.broker.port
        self.ways = {(kind, i): Way(port) for kind in _KINDS for i in range(count)}
        self.running: dict[tuple[str, int], Process] = {}
        plain = self.fleet.settings
        with Store(self.fleet.database) as store:
            for i in range(count):
                way = self.ways[comeback.OURS, i]
                ours = dataclasses.replace(plain.broker, device_port=way.port)
                self.fleet.settings = dataclasses.replace(plain, broker=ours)
                order = Order(name((comeback.OURS, i)), TYPE, app_source=folder / "ticks.py")
                provision(self.fleet, store, order)
        self.fleet.settings = plain
        with registry.opened(self.fleet) as accounts:
            for one in self.ways:
                if one[0] != comeback.OURS:
                    accounts.put(device_account(TYPE, name(one), self.password))

    def start(self, one: tuple[str, int]) -> None:
        kind, device = one[0], name(one)
        if kind == comeback.OURS:
            argv = device_argv(device_tree.tree(), self.fleet.simulated(device))
            self.running[one] = Process(argv)
        else:
            self.running[one] = self.run_peer(kind, device, self.ways[one].port)

    def stop(self) -> None:
        for process in self.running.values():
            process.stop()


def name(one: tuple[str, int]) -> str:
    return f"{comeback.slug(one[0])}-{one[1]}"


def measure(count: int) -> list[dict[str, object]]:
    """Return the rows; in a namespace of its own."""
    loss = Loss()
    with contextlib.ExitStack() as stack:
        peers = Path(os.environ["PEERS"])
        crowd = Crowd(stack.enter_context(demo_network.folder()), peers, count)
        stack.enter_context(Broker(crowd.fleet))
        port, ca = crowd.fleet.settings.broker.port, crowd.fleet.keys / "ca.crt"
        watcher = comeback.Watcher(port, ca, crowd.watcher_secret)
        stack.callback(watcher.close)
        stack.enter_context(Authority(crowd.fleet, lambda _: None))
        stack.callback(crowd.stop)
        for one in crowd.ways:
            crowd.start(one)
            time.sleep(0.2)
        for one in crowd.ways:
            if watcher.next(name(one), _FULL_S) == math.inf:
                raise RuntimeError(f"{name(one)} does not connect")

        def silent(one: tuple[str, int]) -> float:
            made = loss.begin(crowd.ways[one].port)
            time.sleep(_SILENCE_S)
            watcher.drain_one(name(one))
            loss.end(made)
            return time.monotonic()

        def half_open(one: tuple[str, int]) -> float:
            for near in crowd.ways[one].near:
                loss.begin(near)
            time.sleep(0.5)  # what is on its way
            watcher.drain_one(name(one))
            return time.monotonic() - 0.5

        rows: list[dict[str, object]] = []
        for what, lose in (("60 s of lost packets", silent), ("half-open connection", half_open)):
            time.sleep(15)
            times = _times(crowd, watcher, lose)
            rows += comeback.table_rows(f"{what}, {count} devices of each", times)
        return rows


def _times(
    crowd: Crowd, watcher: comeback.Watcher, lose: Callable[[tuple[str, int]], float]
) -> comeback.Times:
    found: comeback.Times = {kind: [] for kind in _KINDS}

    def run(one: tuple[str, int]) -> None:
        time.sleep(one[1] * _GAP_S)
        began = lose(one)
        at = watcher.next(name(one), _MOST_S)
        found[one[0]].append(at - began)
        if at == math.inf:
            crowd.running[one].stop()
            crowd.start(one)

    threads = [threading.Thread(target=run, args=(one,)) for one in crowd.ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({kind: sorted(times) for kind, times in found.items()}), file=sys.stderr)
    return found


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    count = int(os.environ.get("SILENCES", "0"))
    if not count:
        raise LeftOut("SILENCES says how many devices of each kind: 20 take some minutes")
    comeback.find_peers()
    if os.geteuid() or not shutil.which("tc"):
        raise LeftOut("it loses packets in a network namespace: that takes root, and tc")
    argv = ["unshare", "-n", sys.executable, __file__, str(count)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True)
    yield from json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
