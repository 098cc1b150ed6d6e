"""A whole fleet for a test: mosquitto, the authority, and devices that are processes of the real
firmware."""

import ast
import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import process_kit
import server_kit
from port_kit import free_ports
from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import provision, setup
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.fleet import client_pki, device_tree, fleet, pki
from warden_host.service.authority import Authority
from warden_host.store.store import Store

TYPE, DEVICE = "relay", "D1"
# A test that passes waits for the thing itself, however slow the machine is.
PATIENCE_S = process_kit.PATIENCE_S
PROBE = Path(__file__).parent / "device" / "probe.py"


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for a condition without an event: look again and again."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.02)


class Journal:
    """Things that happen, in order, from other threads. take() waits for the next one that fits
    and leaves what came before behind; after close() it waits no more."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._items: list[Any] = []
        self._at = 0
        self._changed = threading.Condition()
        self._over = False

    def close(self) -> None:
        """Nothing comes any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def add(self, item: Any) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def wait_item(self, fits: Callable[[Any], bool], what: str) -> Any:
        deadline = time.monotonic() + self._patience_s
        with self._changed:
            while True:
                while self._at < len(self._items):
                    item = self._items[self._at]
                    self._at += 1
                    if fits(item):
                        return item
                left = 0.0 if self._over else deadline - time.monotonic()
                assert left > 0, f"no {what} among {self._items[-40:]}"
                self._changed.wait(left)

    def all(self) -> list[Any]:
        with self._changed:
            return list(self._items)


@contextlib.contextmanager
def program(
    argv: Sequence[str], folder: Path | None = None, **variables: str
) -> Iterator[Journal]:
    """Run a program until the context ends; yield the lines that it prints.

    folder: its working directory. variables: of its environment, beside ours.
    """
    lines = Journal()
    environment = os.environ | variables | {"PYTHONUNBUFFERED": "1"}
    with process_kit.child(argv, cwd=folder, env=environment, stdout=subprocess.PIPE) as process:

        def read() -> None:
            for line in process.stdout or ():
                lines.add(line.rstrip())
            lines.close()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield lines
    reader.join(PATIENCE_S)


class World:
    """A fleet in a folder.

    The broker and the authority can be stopped and started each for itself.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device_port: int | None = None,
        host: str = server_kit.HOST,
        patience_s: float = PATIENCE_S,
    ) -> None:
        port, admin = free_ports(2)
        settings = fleet.BrokerSettings(
            host=host, port=port, device_port=device_port or port, admin_port=admin
        )
        self.fleet = setup.new_fleet(
            folder / "fleet",
            fleet.Settings(settings, ("set_relay", "get_relay", "lock_relay", "probe")),
        )
        self.port = port
        self.news = Journal(patience_s)
        self.broker: Broker | None = None
        self.authority: Authority | None = None

    def provision(self, device: str = DEVICE, source: Path = PROBE, **settings: Any) -> Path:
        """Make a device; its home, with root/ and fuses/ in it."""
        order = provision.Order(device, TYPE, app_source=source, **settings)
        with Store(self.fleet.database) as store:
            provision.provision(self.fleet, store, order)
        home = self.fleet.simulated(device)
        app = home / "root" / "app"
        if source.name != "app.py":
            (app / "app.py").write_bytes(source.read_bytes())
        return home

    def start_broker(self) -> None:
        self.broker = Broker(self.fleet)
        self.broker.start()

    def kill_broker(self) -> None:
        assert self.broker is not None
        os.kill(self.broker.pid, signal.SIGKILL)
        self.broker.stop()
        self.broker = None

    def start_authority(self) -> None:
        self.authority = Authority(self.fleet, self.news.add)
        self.authority.__enter__()

    def wait_links(self) -> None:
        """Wait until the authority is back at a broker that was started anew."""
        assert self.authority is not None
        for link in list(self.authority._links.values()):
            link.wait(PATIENCE_S)

    def stop_authority(self) -> None:
        if self.authority is not None:
            self.authority.__exit__(None, None, None)
            self.authority = None

    def __enter__(self) -> "World":
        try:
            self.start_broker()
            self.start_authority()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_authority()
        if self.broker is not None:
            self.broker.stop()

    def fleet_event(self, kind: str, **fields: str) -> FleetEvent:
        def fits(news: FleetEvent) -> bool:
            return news.kind == kind and all(
                getattr(news, name) == wanted for name, wanted in fields.items()
            )

        news: FleetEvent = self.news.wait_item(fits, f"{kind} {fields}")
        return news

    def command(self, verb: str, device: str = DEVICE, **args: Any) -> Any:
        """What the device answered; the test fails unless it obeyed."""
        assert self.authority is not None
        # The time-out also bounds the wait for a session that is about to stand.
        answer = self.authority.command(Request(device, verb, args, timeout_s=PATIENCE_S))
        assert answer["ok"] is True, answer
        return answer["reply"]["result"]


def with_certificates(world: World, auth: str = "certificate", **devices: str) -> World:
    """Let the devices of a fleet that does not run yet log in by certificates.

    devices: those that log in otherwise, and how.
    """
    ports = free_ports(2)
    with (world.fleet.root / fleet.CONFIG).open("a") as file:
        file.write(f'[connection]\nauth = "{auth}"\n')
        file.write(f"certificate_port = {ports[0]}\nboth_port = {ports[1]}\n")
        for device, own in devices.items():
            file.write(f'[connection.device.{device}]\nauth = "{own}"\n')
    world.fleet = fleet.Fleet(world.fleet.root)
    client_pki.create(world.fleet)
    return world


class Board:
    """A device's process; started again it is the same device after a power cycle."""

    _stdin = subprocess.DEVNULL

    def __init__(
        self, home: Path, heap: str = "", environment: dict[str, str] | None = None
    ) -> None:
        self.home = home
        self.lines = Journal()
        self._argv = provision.device_argv(device_tree.tree(), home, heapsize=heap)
        self._environment = environment
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        self.lines = Journal()
        self.process = subprocess.Popen(
            self._argv,
            stdin=self._stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        )
        self._reader = threading.Thread(
            target=self._read, args=(self.process, self.lines), daemon=True
        )
        self._reader.start()
        return self

    @staticmethod
    def _read(process: "subprocess.Popen[str]", lines: Journal) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                lines.add(line.rstrip("\n"))
        lines.close()

    def ends(self) -> int:
        """The exit status of a board that stops by itself; all that it said is in lines then."""
        assert self.process is not None
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert not self._reader.is_alive()
        return status

    def kill(self) -> None:
        """As if the power was cut."""
        if self.process is not None:
            self.process.kill()
            self.ends()
            self.process = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait_line(self, text: str) -> str:
        """The next line that begins so."""
        line: str = self.lines.wait_item(lambda line: line.startswith(text), f"line {text!r}")
        return line

    def facts(self) -> dict[str, int]:
        """What the probe printed at its start, before the network."""
        found: dict[str, int] = ast.literal_eval(self.wait_line("start ")[6:])
        return found


@contextlib.contextmanager
def forwarding(world: World, context: ssl.SSLContext, port: int) -> Iterator[None]:
    """A TLS end of its own in front of the broker, on the port that devices are told."""
    upstream = ssl.create_default_context(cafile=str(world.fleet.keys / "ca.crt"))
    # In TLS 1.3 a ticket comes behind the hand-shake: select() would tell of it, and recv() then
    # wait for data that the device has yet to ask for.
    upstream.maximum_version = ssl.TLSVersion.TLSv1_2

    def handle(near: socket.socket) -> None:
        with (
            socket.create_connection((server_kit.HOST, world.port), server_kit.PATIENCE_S) as raw,
            upstream.wrap_socket(raw, server_hostname=server_kit.HOST) as far,
        ):
            while True:
                for ready in select.select([near, far], [], [], server_kit.PATIENCE_S)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    (far if ready is near else near).sendall(data)

    with server_kit.listening(server_kit.over_tls(context, handle), port, side_by_side=True):
        yield


def leaf(world: World, folder: Path, **dates: Any) -> ssl.SSLContext:
    """The fleet's own CA and the key that devices pin, with other dates."""
    made = pki.load_ca(world.fleet.keys).issue(
        (world.fleet.settings.broker.host,),
        key=pki.load_key(world.fleet.keys / "server.key"),
        **dates,
    )
    return server_kit.context(folder, [made.certificate], made.key)
