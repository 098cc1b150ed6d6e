"""An emulated Pico W with the firmware that it really has, as one device of a fleet."""

import ast
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cbor2
import suit_kit
from fleet_kit import DEVICE, TYPE, Journal, World
from ota_e2e_kit import APP, KEY
from warden_host.devices import bundle, provision
from warden_host.fleet import device_tree
from warden_host.store.store import Store

sys.path += [str(Path(__file__).parents[2] / "tools"), str(Path(__file__).parents[1] / "bench")]
from measure_kit import state  # noqa: E402  (the path must be set first)
from warden_build.compiled import compile_device  # noqa: E402

HERE = Path(__file__).parent
ARCHITECTURE = "armv6m"
HOST = "192.0.2.1"  # as in emulator.py
NETWORK = bundle.Network("RP2040PY-GUEST", "any password will do")
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


def build_image(root: Path, image: Path) -> Path:
    """Write a folder as the filesystem of a board's flash."""
    subprocess.run([*emulator(), "build", str(root), str(image)], check=True)
    return image


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

    def port(self) -> str:
        """Return the path of the board's serial port, for mpremote and its like."""
        self.order(port=1)
        return str(self.wait_report(lambda report: "port" in report, "serial port")["port"])

    def stack_peak(self) -> int:
        """Return the most bytes of the C stack in use since the last call, or the reset."""
        self.order(stack=1)
        return int(self.wait_report(lambda report: "stack" in report, "depth")["stack"])

    def type(self, keys: str) -> None:
        """Press keys of the keypad, one after the other."""
        self.order(keys=keys)

    def shows(self, first: str, second: str = "") -> None:
        """Wait until the display's lines begin so."""

        def fits(report: dict[str, Any]) -> bool:
            lines = report.get("shown", ("", ""))
            return bool(lines[0].startswith(first) and lines[1].startswith(second))

        self.wait_report(fits, f"{first}|{second} on the display")

    def flash_operations(self) -> int:
        """Return how many pages of the flash were programmed and sectors erased."""
        self.order(flash=1)
        return int(self.wait_report(lambda report: "flash" in report, "count")["flash"])

    def wait_cut_or(self, text: str) -> str | None:
        """Wait until the power was cut, as the emulator was ordered; the operation's name.

        None where a line that begins so came first: then nothing is cut any more.
        """

        def fits(report: dict[str, Any]) -> bool:
            return "cut" in report or report.get("line", "").startswith(text)

        report = self.wait_report(fits, "power cut")
        if "cut" not in report:
            self.order(cut=0, part=0)
            return None
        assert self.process is not None
        self.process.wait(PATIENCE_S)
        self.process = None
        return str(report["cut"])

    def wait_report(self, fits: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        report: dict[str, Any] = self.lines.wait_item(fits, what)
        return report

    def wait_line(self, text: str) -> dict[str, Any]:
        """Wait for a line of the console that begins so."""
        return self.wait_report(lambda report: report.get("line", "").startswith(text), text)

    def wait_lines(self, *texts: str) -> None:
        """Wait for lines of the console that begin so, in any order."""
        left = set(texts)

        def fits(report: dict[str, Any]) -> bool:
            line = report.get("line", "")
            left.difference_update({text for text in left if line.startswith(text)})
            return not left

        self.wait_report(fits, " and ".join(texts))

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


def program_pico(folder: Path, firmware: Path, program: Path) -> Pico:
    """Start a board without an owner: the whole package, and a program as /app/NAME.py."""
    root = folder / "root"
    (root / "app").mkdir(parents=True)
    shutil.copytree(device_tree.tree().library, root / "lib" / "warden")
    shutil.copytree(device_tree.umqtt(), root / "lib" / "umqtt")
    shutil.copy(program, root / "app")
    compile_device(root, ARCHITECTURE)
    pico = Pico(firmware, build_image(root, folder / "flash.littlefs")).start()
    pico.execute("import sys\nsys.path[:] = ['.frozen', '/app', '/lib']\n")
    return pico


def provision_pico(
    world: World,
    firmware: Path,
    app: Path,
    board_lines: str = "",
    boot_lines: str = "",
    driver: Path | None = None,
    limits: dict[str, Any] | None = None,
    frozen: bool = False,
    **settings: Any,
) -> Pico:
    """Provision a board over its REPL, with the package as `make mpy` builds it.

    app: the application's app.py. board_lines: added to board.py. boot_lines: added to boot.py.
    driver: a module beside the application. limits: more of the policy's. frozen: the package is
    in the firmware.
    settings: of the Order; with otp, the policy's gate, board_lines name a keypad.
    """
    bundles: list[bytes] = []

    def deliver(_tree: device_tree.Tree, _home: Path, data: bytes, _pin: bytes) -> None:
        bundles.append(data)

    # The broker's clock runs many times faster than the chip's.
    limits = {"keepalive_s": 3600} | (limits or {})
    order = provision.Order(
        DEVICE,
        TYPE,
        board="RPI_PICO_W",
        app_source=app,
        limits=limits,
        networks=(NETWORK,),
        **settings,
    )
    with Store(world.fleet.database) as store:
        provision.provision(world.fleet, store, order, deliver)
    home = world.fleet.simulated(DEVICE)
    root = home / "root"
    board = root / "lib" / "board.py"
    board.write_text(board.read_text() + board_lines)
    boot = root / "boot.py"
    boot.write_text(boot.read_text() + boot_lines)
    (root / "provision.py").write_text((HERE / "device" / "provision.py").read_text())
    (root / "bundle").write_bytes(bundles[0])
    if driver is not None:
        shutil.copy(driver, root / "app")
    compile_device(root, ARCHITECTURE)
    if frozen:
        (root / "lib" / "warden.mpy").unlink()
        shutil.rmtree(root / "lib" / "umqtt")
    for name in ("boot.py", "main.py"):
        (root / name).rename(root / f"new_{name}")
    pico = Pico(firmware, build_image(root, home / "flash.littlefs")).start()
    try:
        print(pico.execute(_PROVISION))
        pico.order(reset=1)
    except BaseException:
        pico.kill()
        raise
    return pico


def updatable_pico(world: World, firmware: Path, folder: Path, board_lines: str) -> Pico:
    """Provision a board with the application of ota_e2e_kit.py, whose release keys are in it."""
    app = folder / "app.py"
    release = cbor2.dumps(
        [suit_kit.VENDOR, suit_kit.CLASS, [suit_kit.public_of(KEY)]], canonical=True
    )
    opening = '        with open("/release.cbor", "rb") as file:\n'
    opening += '            vault.put("release", file.read())\n'
    source = APP.read_text()
    assert opening in source
    app.write_text(source.replace(opening, f'        vault.put("release", {release!r})\n'))
    return provision_pico(world, firmware, app, board_lines)


_WORDS = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True)
class Row:
    """A figure, and the most or the least that it should be."""

    name: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def target(self) -> str:
        if self.most is not None:
            return f"≤ {self.most:,}"
        return "" if self.least is None else f"≥ {self.least:,}"

    @property
    def ok(self) -> bool | None:
        if self.most is not None:
            return self.value <= self.most
        return None if self.least is None else self.value >= self.least


def write_rows(path: Path, rows: list[Row], variable: str = "FIRMWARE") -> None:
    """Print figures, and write them down as rows of `make bench`.

    variable: of the environment, that names the firmware which was measured.
    """
    found = []
    measured = f"{state()}, {Path(os.environ[variable]).name}"
    for row in rows:
        print(f"{row.name:42} {row.value:10,.1f} {row.unit:6} {row.target:10} {_WORDS[row.ok]}")
        fields = {"name": f"Pico W: {row.name}", "value": row.value, "unit": row.unit}
        found.append(fields | {"target": row.target, "ok": row.ok, "measured": measured})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
