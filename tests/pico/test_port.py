"""mpremote on the serial port of the emulated Pico W."""

import os
import subprocess
from pathlib import Path

from pico_kit import PATIENCE_S, Pico, build_image


def mpremote(port: str, *args: str) -> str:
    """Run mpremote of the emulator's interpreter; return what it printed."""
    argv = [os.environ["PICO_PYTHON"], "-m", "mpremote", "connect", port, *args]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_files_come_and_go(tmp_path: Path, firmware: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "greeting.py").write_text("TEXT = 'hello'\n")
    data = tmp_path / "data"
    # Every byte, Ctrl-C and Ctrl-D among them, and more than the port's buffers hold.
    data.write_bytes(bytes(range(256)) * 40)
    with Pico(firmware, build_image(root, tmp_path / "flash.littlefs")) as pico:
        port = pico.port()
        assert mpremote(port, "exec", "import greeting; print(greeting.TEXT)").strip() == "hello"
        mpremote(port, "fs", "cp", str(data), ":data")
        mpremote(port, "fs", "cp", ":data", str(tmp_path / "back"))
        pico.stop()
    assert (tmp_path / "back").read_bytes() == data.read_bytes()
