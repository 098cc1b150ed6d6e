"""Measure `warden` as a process, from its start to its end, beside mpremote and a bare Python.

Each round starts one of every kind, so that the machine's load falls on all of them. `warden send`
reaches a control socket that answers at once: what the authority and the device take is measured
by bench_authority.py and bench_wire.py.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure_kit import figure, row
from warden_host.fleet import fleet
from warden_host.fleet.fleet import BrokerSettings, Settings
from warden_host.protocol import policy
from warden_host.service.control import Caller, ControlServer, Line
from warden_host.store.devices import Device
from warden_host.store.store import Store

TOOLS = Path(__file__).resolve().parents[2] / "tools"
_ROUNDS = 11
_DEVICES = 50
_LIST = f"devices, {_DEVICES} of them"
_WARDEN = "from warden_host.cli.main import main; main()"
_MPREMOTE = "from mpremote.main import main; main()"


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    with tempfile.TemporaryDirectory() as folder:
        made = fleet.create(Path(folder) / "fleet", Settings(BrokerSettings(), ()))
        many = fleet.create(Path(folder) / "many", Settings(BrokerSettings(), ()))
        with Store(many.database) as store, store.transaction():
            for number in range(_DEVICES):
                name, type_ = f"D{number}", ("lock", "lamp")[number % 2]
                store.add_device(Device(name, type_, "UNIX", "sealed", policy.record()))
        with ControlServer(made.control, _answer), ControlServer(many.control, _answer):
            measured = _measure(str(made.root), str(many.root))
    bare, mpremote = (f"{name} {figure(measured[name][0])} ms" for name in ("python", "mpremote"))
    for name in ("send", "devices", _LIST, "--help"):
        wall_ms, cpu_ms = measured[name]
        # A quiet machine takes no longer than the CPU's time, a loaded one any time.
        yield row(f"`warden {name}` as a process", wall_ms, "ms", peer=f"{bare}, {mpremote}")
        yield row(f"`warden {name}` as a process, CPU", cpu_ms, "ms", most=200)
    for name in ("send", "devices", _LIST):
        share = measured[name][0] / measured["mpremote"][0]
        yield row(f"start of `warden {name}`", share, "× `mpremote --version`", most=1.5)


def _answer(line: Line, caller: Caller) -> None:
    if line["op"] == "online":
        caller.finish({"online": {}})
    else:
        reply = {"ok": True, "result": 1}
        caller.finish({"ok": True, "device": line["device"], "command": "ping", "reply": reply})


def _measure(folder: str, many: str) -> dict[str, tuple[float, float]]:
    """Return the median milliseconds of each kind of process: until its end, and of CPU."""
    warden = ["-c", _WARDEN, "--fleet", folder]
    kinds = {
        "python": ["-c", "pass"],
        "mpremote": ["-c", _MPREMOTE, "--version"],
        "send": [*warden, "send", "front-door", "ping"],
        "devices": [*warden, "devices"],
        _LIST: ["-c", _WARDEN, "--fleet", many, "devices"],
        "--help": [*warden, "--help"],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    environment = os.environ | {"PYTHONPATH": str(TOOLS)}
    for _ in range(_ROUNDS):
        for name, arguments in kinds.items():
            before, began = _children_s(), time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments],
                env=environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            took = time.perf_counter() - began
            times[name].append((took * 1000, (_children_s() - before) * 1000))
    return {
        name: (statistics.median(wall), statistics.median(cpu))
        for name, (wall, cpu) in (
            (name, zip(*found, strict=True)) for name, found in times.items()
        )
    }


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
