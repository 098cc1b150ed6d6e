"""Measure an update over the air: the package as boards run it, the fleet's own broker and TLS,
and a rollout as `warden rollout` starts it.

The time from the order to the report that the device confirmed it, its restart included; and of
that the download alone, from the manifest's order to the reply to the last chunk: the device has
verified and staged the image then.
"""

import contextlib
import json
import os
import queue
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from demo import network as demo_network
from measure_kit import IDLE_APP, Process, figure, row
from warden_build.compiled import compile_device
from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import setup
from warden_host.devices.provision import Order, device_argv, provision
from warden_host.engine.events import FleetEvent
from warden_host.fleet import device_tree, pki
from warden_host.fleet.fleet import BrokerSettings, Fleet, Settings
from warden_host.names import AUTHORITY
from warden_host.release import release, signing_key
from warden_host.service.authority import Authority
from warden_host.service.control import Caller
from warden_host.service.rollout_handler import RolloutHandler
from warden_host.store.store import Store

TYPE, DEVICE = "bench", "update"
KEY = ec.derive_private_key(0x7654321, ec.SECP256R1())
_SIZE = 200 * 1024
_ROUNDS = 5
_WAIT_S = 60.0
_HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
_FETCH = """\
import hashlib, json, socket, sys, time, tls
setting = json.loads(sys.stdin.readline())
began = time.ticks_us()
raw = socket.socket()
raw.connect(socket.getaddrinfo("127.0.0.1", setting["port"])[0][-1])
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.verify_mode = tls.CERT_REQUIRED
context.load_verify_locations(bytes.fromhex(setting["ca"]))
stream = context.wrap_socket(raw, server_hostname="127.0.0.1")
stream.write(b"GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
sha, piece, total = hashlib.sha256(), memoryview(bytearray(4096)), 0
while total < setting["size"] and (count := stream.readinto(piece)):
    sha.update(piece[:count])
    total += count
print("took" if total == setting["size"] else "short", time.ticks_diff(time.ticks_us(), began))
"""


class Board:
    """A simulated device that starts again whenever it ends, as a board does."""

    def __init__(self, home: Path) -> None:
        self._argv = device_argv(device_tree.tree(), home)
        self._ended = threading.Event()
        self._process: Process | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ended.is_set():
            with Process(self._argv) as self._process:
                self._process.child.wait()

    def __enter__(self) -> "Board":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._process is not None:
            self._process.child.kill()
        self._thread.join()


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(demo_network.folder())
        fleet = new_fleet(folder)
        news: queue.Queue[FleetEvent] = queue.Queue()
        stack.enter_context(Broker(fleet))
        authority = stack.enter_context(Authority(fleet, news.put))
        handler = RolloutHandler(fleet, authority)
        stack.callback(handler.close)
        stack.enter_context(Board(fleet.simulated(DEVICE)))
        wait_session(news)
        totals, downloads = [], []
        for number in range(_ROUNDS):
            total, download = update(fleet, folder, handler, str(number))
            totals.append(total)
            downloads.append(download)
        peer = f"HTTPS floor {figure(https_floor(fleet))} s"
    name = f"update of {_SIZE // 1024} KB"
    yield row(f"{name}, order to confirmed", statistics.median(totals), "s", most=4)
    yield row(f"{name}, download alone", statistics.median(downloads), "s", most=0.8, peer=peer)


def new_fleet(folder: Path) -> Fleet:
    port, admin_port = demo_network.free_ports(2)
    broker = BrokerSettings(port=port, device_port=port, admin_port=admin_port)
    fleet = setup.new_fleet(folder / "fleet", Settings(broker, ()))
    signing_key.add(fleet, "bench", KEY.public_key())
    source = folder / "app.py"
    source.write_text(IDLE_APP)
    with Store(fleet.database) as store:
        provision(fleet, store, Order(DEVICE, TYPE, app_source=source))
    compile_device(fleet.simulated(DEVICE) / "root")
    return fleet


def wait_session(news: "queue.Queue[FleetEvent]") -> None:
    while True:
        event = news.get(timeout=_WAIT_S)
        if (event.kind, event.app) == ("session", AUTHORITY):
            return


def update(
    fleet: Fleet, folder: Path, handler: RolloutHandler, version: str
) -> tuple[float, float]:
    """Return the seconds from the order to Accepted, and those of the download."""
    app = folder / f"app-{version}"
    app.mkdir()
    (app / "app.py").write_text(IDLE_APP)
    (app / "filler.bin").write_bytes(os.urandom(_SIZE))  # which no chunk compresses
    with Store(fleet.database) as store:
        order = release.Order(TYPE, version, {"app": app})
        name = release.make(fleet, store, order, KEY, "").name
    caller = Caller()
    began = time.monotonic()
    handler.operations["rollout"]({"release": name, "devices": [DEVICE]}, caller)
    reached: dict[object, float] = {}
    while (line := caller.next_line(_WAIT_S)) is not None:
        reached.setdefault(line["state"] if "device" in line else "", time.monotonic())
    return reached["Accepted"] - began, reached["Testing"] - reached["Downloading"]


def https_floor(fleet: Fleet) -> float:
    """Return the median seconds of bare downloads by HTTPS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(fleet.keys / "server.crt", fleet.keys / "server.key")
    data = _HEAD + os.urandom(_SIZE)

    def serve() -> None:
        for _ in range(_ROUNDS):
            raw, _address = listener.accept()
            with context.wrap_socket(raw, server_side=True) as stream:
                stream.recv(4096)
                stream.sendall(data)

    ca = pki.load_ca(fleet.keys).der().hex()
    found = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        setting = {"port": listener.getsockname()[1], "ca": ca, "size": len(data)}
        for _ in range(_ROUNDS):
            with Process([device_tree.micropython(), "-c", _FETCH]) as process:
                process.write_line(json.dumps(setting))
                found.append(int(process.wait_line("took")) / 1e6)
    return statistics.median(found)
