"""What a shut gate takes: live heap beside the agent's, and the work of an idle keypad.

On the compiled lean package, as boards run it.

Work is counted in empty calls of the interpreter, in the same run: 1,000 of them take an RP2040
15.9 ms (measured on an emulated chip at 125 MHz). The unix port's words are 64 bits wide: about
twice what a board needs.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure_kit import row
from warden_host.fleet import device_tree

REPO = Path(__file__).resolve().parents[2]
sys.path.append(str(REPO / "tools"))
from warden_build.compiled import build_repository, lay_out  # noqa: E402

_CALL_S = 15.9e-6
_QUIET_S = 5.0  # gate.py's


def measured(folder: Path, source: str) -> dict[str, float]:
    program = str(folder / "tests" / "bench" / "gate_device.py")
    argv = [program, str(folder / "lib"), str(folder), source]
    done = subprocess.run(
        [device_tree.micropython(), "-X", "heapsize=4m", *argv],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    folder = Path(tempfile.mkdtemp())
    try:
        lay_out(build_repository(), folder)
        online, offline = measured(folder, "authority"), measured(folder, "hotp")
    finally:
        shutil.rmtree(folder)
    state = online["whole"] - online["code"]
    yield row("shut gate: objects, with keypad and display", state, "bytes of 64-bit heap")
    yield row(
        "shut gate: the same on a 32-bit board with frozen code, about",
        state / 2,
        "bytes",
        most=4096,
    )
    yield row("shut gate, code loaded from .mpy files besides", online["code"], "bytes, 64-bit")
    yield row("shut gate that judges codes itself, all of it", offline["whole"], "bytes, 64-bit")
    quiet = online["quiet"] / _QUIET_S * _CALL_S * 100
    yield row("idle keypad that interrupts", quiet, "% of an RP2040", most=1)
    polled = online["polled"] * 1000 / online["period"] * _CALL_S * 100
    yield row("idle keypad without interrupts, polled", polled, "% of an RP2040")
