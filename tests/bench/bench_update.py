"""What an update costs a device: its pace next to a bare read-hash-write loop, and the heap that
it takes beside an idle agent's.

The heap is that of the whole agent, compiled as boards run it, on a real broker with the fleet's
own configuration: the smallest one in which an image is installed, less the smallest in which the
same agent only connects and answers.
"""

import contextlib
import json
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tests" / "host"), str(Path(__file__).parent)]

import cbor2  # noqa: E402  (the path must be set first)
import suit_kit as kit  # noqa: E402  (the path must be set first)
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from demo import network as demo_network  # noqa: E402
from measure_kit import IDLE_APP, Process, row  # noqa: E402
from mpremote.romfs import VfsRomWriter  # noqa: E402
from warden_build.compiled import (  # noqa: E402
    HOST_ARCHITECTURE,
    build_repository,
    compile_device,
    lay_out,
)
from warden_host.broker.mosquitto.broker import Broker  # noqa: E402
from warden_host.devices import setup  # noqa: E402
from warden_host.devices.provision import Order, device_argv, provision  # noqa: E402
from warden_host.engine.events import FleetEvent  # noqa: E402
from warden_host.engine.request import Request  # noqa: E402
from warden_host.errors import HostError  # noqa: E402
from warden_host.fleet import device_tree  # noqa: E402
from warden_host.fleet.fleet import BrokerSettings, Settings  # noqa: E402
from warden_host.names import AUTHORITY  # noqa: E402
from warden_host.release import signing_key  # noqa: E402
from warden_host.service.authority import Authority  # noqa: E402
from warden_host.store.store import Store  # noqa: E402

TYPE, DEVICE = "bench", "slots0"
KEY = ec.derive_private_key(0x7654321, ec.SECP256R1())
SMALL, LARGE = 100 * 1024, 4 * 1024 * 1024
_MOST_KB = 10
_UNIT = "KB of %d-bit heap"
_LOW_KB, _HIGH_KB = 64, 192
_SPAN_KB = 64  # above the idle agent's heap, for the search
_TRIES = 3  # of the largest heap of a search: where memory is short, luck has a part in it
_PROCESSES, _ROUNDS = 5, 12
# Of a size that is too small. A loaded machine must not make a size that fits one of these.
_PATIENCE_S = 20.0


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    # Without a target: a loop of C code takes 5 us for a piece here, and 2 ms on a Pico W, whose
    # rows have it (tests/pico/test_pace.py).
    for name, value in pace().items():
        yield row(name, value, "% of a bare loop's pace")
    with contextlib.ExitStack() as stack:
        heap = Heap(stack)
        for size in (SMALL, LARGE):
            yield from heap.phase_rows(size, 64)
        idle, small, large = heap.sizes()
    yield row("idle agent with slots, TLS not counted", idle, "KB of 64-bit heap")
    for size, least in ((SMALL, small), (LARGE, large)):
        name = f"heap to install {size // 1024:,} KB, over the idle agent's"
        yield row(name, least - idle, "KB, 64-bit", most=_MOST_KB)


# -- pace ---------------------------------------------------------------------------------------


def pace() -> dict[str, float]:
    """Name → percent: the median of several processes, since where things lie in memory is another
    matter in each."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as tree:
        lay_out(build_repository(), Path(tree))
        script = f"{tree}/tests/bench/update_device.py"
        argv = [device_tree.micropython(), "-X", "heapsize=8m", script, f"{tree}/lib"]
        for _ in range(_PROCESSES):
            with tempfile.TemporaryDirectory() as folder:
                done = subprocess.run(
                    [*argv, folder, str(_ROUNDS)],
                    capture_output=True,
                    text=True,
                    timeout=300,
                    check=True,
                )
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                found.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in found.items()}


# -- memory -------------------------------------------------------------------------------------


def image(size: int) -> bytes:
    writer = VfsRomWriter()
    writer.mkfile("app.py", IDLE_APP.encode())
    writer.mkfile("filler.bin", bytes(range(256)) * (size // 256 - 16))
    return writer.finalise()


class Heap:
    """One device that is started again and again, in heaps of different sizes."""

    def __init__(self, stack: contextlib.ExitStack, architecture: str = HOST_ARCHITECTURE) -> None:
        self.architecture = architecture
        folder = stack.enter_context(demo_network.folder())
        port, admin_port = demo_network.free_ports(2)
        broker = BrokerSettings(port=port, device_port=port, admin_port=admin_port)
        self.fleet = setup.new_fleet(folder / "fleet", Settings(broker, ()))
        signing_key.add(self.fleet, "bench", KEY.public_key())
        source = folder / "app.py"
        source.write_text(IDLE_APP)
        with Store(self.fleet.database) as store:
            provision(self.fleet, store, Order(DEVICE, TYPE, app_source=source))
            self.vendor = store.vendor()
        self.class_id = signing_key.class_id(self.vendor, TYPE)
        self.home = self.fleet.simulated(DEVICE)
        compile_device(self.home / "root", architecture)
        self.news: queue.Queue[FleetEvent] = queue.Queue()
        stack.enter_context(Broker(self.fleet))
        self.authority = stack.enter_context(Authority(self.fleet, lambda _: None))
        # What is announced is limited: after the chunks of an update no session is.
        self.authority.ask(lambda engine: engine.watchers.add(self.news.put))
        self.sequence = 1
        self.images = {size: image(size) for size in (SMALL, LARGE)}

    def sizes(self) -> tuple[int, int, int]:
        """KB: idle, a small image, a large one."""
        idle = self.smallest(0, _LOW_KB, _HIGH_KB)
        small = self.smallest(SMALL, idle - 1, idle + _SPAN_KB)
        large = small
        while not self.works(large, LARGE):
            large += 1
            if large > idle + _SPAN_KB:
                raise RuntimeError("the large image is installed in no heap")
        return idle, small, large

    def phase_rows(self, size: int, words: int) -> Iterator[dict[str, object]]:
        """Yield a row for each of phases(). words: their bits, which the rows' unit says."""
        for phase, value in self.phases(size).items():
            name = f"live heap of an update of {size // 1024:,} KB, {phase}"
            yield row(
                name if words == 64 else f"{words} bits: {name}", value / 1024, _UNIT % words
            )

    def phases(self, size: int) -> dict[str, int]:
        """Phase → bytes that live after a collection, more than the vault's and the slots' before:
        without the agent."""
        with tempfile.TemporaryDirectory() as tree, tempfile.TemporaryDirectory() as folder:
            lay_out(build_repository(), Path(tree), self.architecture)
            argv = [
                device_tree.micropython(),
                "-X",
                "heapsize=4m",
                f"{tree}/tests/bench/update_heap.py",
            ]
            umqtt = str(device_tree.umqtt().parent)
            argv += [f"{tree}/lib", f"{tree}/tests/unit/kit", umqtt, folder]
            given = self.release().hex() + " " + self.envelope(2, bytes(size)).hex()
            done = subprocess.run(
                argv, input=given, capture_output=True, text=True, timeout=300, check=True
            )
        found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return found

    def smallest(self, size: int, low: int, high: int) -> int:
        if not any(self.works(high, size) for _ in range(_TRIES)):
            raise RuntimeError(f"it does not work in {high} KB")
        while high - low > 1:
            middle = (low + high) // 2
            # Where it just fits, luck has a part in it: a size counts that works twice.
            if self.works(middle, size) and self.works(middle, size):
                high = middle
            else:
                low = middle
        return high

    def works(self, kilobytes: int, size: int) -> bool:
        """Whether the device comes to its session in this heap, and installs an image of this
        size."""
        # Without its files no slot boots: what was installed before is given up, and the
        # provisioned application runs.
        shutil.rmtree(self.home / "root" / "slots", ignore_errors=True)
        argv = device_argv(device_tree.tree(), self.home, heapsize=f"{kilobytes}k")
        self.news.queue.clear()
        try:
            with Process(argv) as process:
                if not self.wait_sessions(process):
                    return False
                # One that was cut, in the heap that was tried before.
                if self.order()["state"] == "Downloading":
                    self.order(abort=True)
                if not size:
                    return True
                data = self.images[size]
                status = self.order_update(data)
                if status["want"] is not None:
                    return self.feed(status, data)
                if status["state"] != "Downloading":
                    return False
                # Short of memory, it judges the manifest at a start of its own.
                process.child.wait(_PATIENCE_S)
            with Process(argv) as process:
                return self.wait_sessions(process) and self.feed(self.order(), data)
        except (HostError, Refused, subprocess.TimeoutExpired):
            return False

    def wait_sessions(self, process: Process) -> bool:
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end and process.child.poll() is None:
            with contextlib.suppress(queue.Empty):
                news = self.news.get(timeout=0.1)
                if (news.kind, news.app) == ("session", AUTHORITY):
                    return True
        return False

    def envelope(self, sequence: int, data: bytes) -> bytes:
        common = kit.sequence(
            20,
            kit.device_parameters(self.vendor, self.class_id) | kit.image_parameters(data),
            1,
            15,
            2,
            15,
        )
        return kit.envelope(kit.manifest(sequence, shared=common), kit.ecdsa(KEY))

    def release(self) -> bytes:
        """The vault's record, as docs/formats.md has it."""
        numbers = KEY.public_key().public_numbers()
        key = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        return cbor2.dumps([self.vendor, self.class_id, [key]])

    def order_update(self, data: bytes) -> dict[str, object]:
        self.sequence += 1
        return self.order(envelope=self.envelope(self.sequence, data))

    def feed(self, status: dict[str, object], data: bytes) -> bool:
        while status["want"] is not None:
            number, _, at, length = status["want"]
            status = self.order(n=number, data=data[at : at + length])
        return bool(status["state"] == "Testing")

    def order(self, **args: object) -> dict[str, object]:
        request = Request(DEVICE, "update", args, app=AUTHORITY, timeout_s=_PATIENCE_S)
        answer = self.authority.command(request)
        if not answer["ok"]:
            raise Refused(answer["reply"])
        return answer["reply"]["result"]


class Refused(Exception):
    """By the device, with its code."""
