"""Show updates: one is confirmed, one falls back, and two are refused."""

import contextlib
import secrets
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warden_host import control_client
from warden_host.devices.provision import Order, provision
from warden_host.engine.request import Request
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.release import release, signing_key
from warden_host.release.opened import open_release
from warden_host.service.run import Service
from warden_host.sim.simulated import SimulatedDevice
from warden_host.store.store import Store

from demo.script import Mismatch, Story

TYPE, DEVICE = "gate", "garden-gate"
_WAIT_S = 120.0
# `health` is the application's own check, called once the device is connected.
_APP = """import asyncio
from warden import Device

device = Device.from_board(lambda code, text: None)
device.health(lambda: {healthy})


async def main():
    print("version", "{version}")
    await device.start()
    while True:
        await asyncio.sleep(60)


asyncio.run(main())
"""


class Gate:
    """A device that restarts after each reset, and its console."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._off = threading.Event()
        self._changed = threading.Condition()
        self._versions: list[str] = []
        self._device: SimulatedDevice | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._off.is_set():
            with SimulatedDevice(self._home) as device:
                self._device = device
                device.lines(self._line)

    def _line(self, line: str) -> None:
        if line.startswith("version "):
            with self._changed:
                self._versions.append(line[8:])
                self._changed.notify_all()

    def starts(self, count: int) -> list[str]:
        """Return the versions that it started with, once there are so many."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._versions) >= count, _WAIT_S):
                raise Mismatch(f"it started {', '.join(self._versions) or 'nothing'}")
            return list(self._versions)

    def __enter__(self) -> "Gate":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._off.set()
        if self._device is not None:
            self._device.stop()
        self._thread.join(5)


@contextlib.contextmanager
def _device(fleet: Fleet, folder: Path) -> Iterator[Gate]:
    """Start a device with slots, of its own type."""
    with Store(fleet.database) as store:
        provision(fleet, store, Order(DEVICE, TYPE, app_source=_source(folder, "1", True)))
    control_client.call(fleet.control, {"op": "reload", "device": DEVICE})
    with Gate(fleet.simulated(DEVICE)) as gate:
        yield gate


def _source(folder: Path, version: str, healthy: bool) -> Path:
    made = folder / version
    made.mkdir()
    (made / "app.py").write_text(_APP.format(version=version, healthy=healthy))
    return made


def _rolled_out(fleet: Fleet, name: str) -> tuple[str, str]:
    """Return the states of the device, and the last state's reason."""
    states: list[str] = []
    reason = ""
    request = {"op": "rollout", "release": name, "devices": [DEVICE]}
    for line in control_client.stream(fleet.control, request, _WAIT_S):
        if "device" in line and (not states or states[-1] != line["state"]):
            states.append(str(line["state"]))
            reason = str(line["reason"])
    return " → ".join(state for state in states if state != "Waiting"), reason


def _order(service: Service, args: dict[str, Any]) -> dict[str, Any]:
    """Give the device an update command, after waiting for its session."""
    request = Request(DEVICE, "update", args, app=AUTHORITY, timeout_s=_WAIT_S)
    return service.authority.command(request)


def _refused(service: Service, envelope: bytes, code: str) -> str:
    answer = _order(service, {"envelope": envelope})
    error = answer["reply"].get("error")
    if answer["ok"] or error != code:
        raise Mismatch(f"the device answered {answer['reply']}")
    return f"refused before anything was written: {error}"


def run_chapter(story: Story, fleet: Fleet, service: Service) -> None:
    """Run the chapter. The fleet serves; the device runs only meanwhile."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        passphrase = secrets.token_hex(16).encode()
        gates: list[Gate] = []
        names: dict[str, str] = {}

        def prepare() -> str:
            key = signing_key.make(fleet, "release", "p256", passphrase)
            gates.append(stack.enter_context(_device(fleet, folder)))
            private = signing_key.open_private(fleet, key, passphrase)
            with Store(fleet.database) as store:
                for version, healthy in (("2", True), ("3", False)):
                    source = _source(folder, version, healthy)
                    order = release.Order(TYPE, version, {"app": source}, encrypted=not healthy)
                    made = release.make(fleet, store, order, private, key.algorithm)
                    names[version] = made.name
            _order(service, {})
            return f"2 and 3, signed by {key.fingerprint[:8]}…; the device runs version 1"

        def envelope(version: str) -> bytes:
            with (
                Store(fleet.database) as store,
                contextlib.closing(open_release(fleet, store, names[version])) as opened,
            ):
                return opened.envelope

        def well() -> str:
            states, reason = _rolled_out(fleet, names["2"])
            runs = gates[0].starts(2)[-1]
            if not states.endswith("Accepted") or runs != "2":
                raise Mismatch(f"{states} {reason}, version {runs}")
            return states

        def changed() -> str:
            data = bytearray(envelope("3"))
            data[data.index(b"\xf6\x58\x40") + 10] ^= 1  # in the 64 bytes of the signature
            return _refused(service, bytes(data), "tampered")

        def old() -> str:
            return _refused(service, envelope("2"), "old-manifest")

        def sick() -> str:
            states, reason = _rolled_out(fleet, names["3"])
            runs = gates[0].starts(4)
            last = " → ".join(states.split(" → ")[-2:])
            if not states.endswith("Rejected") or runs[-2:] != ["3", "2"]:
                raise Mismatch(f"{states} {reason}, versions {', '.join(runs)}")
            return f"{last} ({reason}): version 2 runs again"

        story.line("its maker signs two releases", prepare)
        if not names:
            return
        story.line("the first one is rolled out", well)
        story.line("a release with one bit changed", changed)
        story.line("a release from before", old)
        story.line("one that fails its own health check", sick)
