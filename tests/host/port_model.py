"""A board on a serial port that tests plug in, reset, unplug and whose flash they read.

The firmware is repl_model.py on the unix port. The port is a pseudo-terminal behind a link of a
fixed name: like a USB board's it vanishes with a hard reset and comes back under the same name.
"""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Self

from process_kit import PATIENCE_S

HERE = Path(__file__).parent
BLOCK = 4096
CTRL_C = b"\x03"


class Listed:
    """A USB port as pyserial lists it; it is there while the board's port is."""

    vid, product, description = 0x2E8A, "Board", ""

    def __init__(self, device: str, serial_number: str) -> None:
        self.device, self.serial_number = device, serial_number


class BoardModel:
    """folder: of the board's own. blocks: of its filesystem, 4 KB each; unique_id: of its chip."""

    def __init__(
        self,
        folder: Path,
        micropython: str,
        blocks: int = 212,
        kind: str = "VfsLfs2",
        unique_id: bytes = b"\x01\x02\x03\x04\x05\x06\x07\x08",
    ) -> None:
        self.folder = folder
        self.flash = folder / "flash"
        self.fuses = folder / "fuses"
        self.port = str(folder / "port")
        # Called with what the host wrote and how many bytes came before; returns what of it the
        # board gets, None to reset it first.
        self.on_input: Callable[[bytes, int], bytes | None] = lambda data, _: data
        self.lines = b""  # all that the board said
        self.received = 0
        self.resets = 0
        self.watchdog_s = 0.0  # the time that a started watchdog allows, 0 for no limit
        self.fed = False
        self.interrupts = False  # whether Ctrl-C does so now
        self._micropython = micropython
        self._closed = threading.Event()
        self._unplugged = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.fuses.mkdir(parents=True)
        (self.fuses / "unique_id").write_bytes(unique_id)
        self.flash.write_bytes(b"\xff" * (blocks * BLOCK))
        self._offline("format", kind)

    def _offline(self, *task: str) -> str:
        argv = [self._micropython, str(HERE / "repl_model.py"), str(self.flash), str(self.fuses)]
        done = subprocess.run(
            [*argv, os.devnull, *task], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_offline(self, program: str) -> str:
        """Run a program on the board's files while the board is off; return what it printed."""
        file = self.folder / "program.py"
        file.write_text(program)
        return self._offline("run", str(file))

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_port()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(PATIENCE_S)

    def wait_port(self) -> None:
        limit = time.monotonic() + PATIENCE_S
        while not os.path.exists(self.port):
            assert time.monotonic() < limit, "the port did not come back"
            time.sleep(0.01)

    def wait_line(self, text: bytes) -> None:
        """Wait until the board has said this since it was first started."""
        limit = time.monotonic() + PATIENCE_S
        while text not in self.lines:
            assert time.monotonic() < limit, f"the board did not say {text!r}: {self.lines!r}"
            time.sleep(0.01)

    def unplug(self) -> None:
        """Cut the power, and let the port vanish for good."""
        self._unplugged = True
        limit = time.monotonic() + PATIENCE_S
        while threading.current_thread() is not self._thread and os.path.exists(self.port):
            assert time.monotonic() < limit, "the board did not go off"
            time.sleep(0.01)

    def plug_in(self) -> None:
        """Power it again: a hard reset."""
        self._unplugged = False
        self.wait_port()

    def erase_flash(self) -> None:
        """Erase the chip with a tool of its maker: an empty filesystem is made at the start."""
        self.unplug()
        self._offline("format", "VfsLfs2")
        self.plug_in()

    def _run(self) -> None:
        start = "hard"
        while not self._closed.is_set():
            if self._unplugged:
                time.sleep(0.01)
                continue
            master, slave = pty.openpty()
            tty.setraw(slave)
            link = Path(self.port)
            with contextlib.suppress(FileNotFoundError):
                link.unlink()
            link.symlink_to(os.ttyname(slave))
            try:
                while not self._closed.is_set() and not self._unplugged:
                    start = "raw" if self._serve(master, start) else "hard"
                    if start == "hard":
                        break
            finally:
                with contextlib.suppress(FileNotFoundError):
                    link.unlink()
                os.close(master)
                os.close(slave)
                self.resets += 1

    def _serve(self, master: int, start: str) -> bool:
        """Run the firmware from one reset to the next; return whether that was a soft one."""
        told, state = os.pipe()
        argv = [self._micropython, str(HERE / "repl_model.py"), str(self.flash)]
        process = subprocess.Popen(
            [*argv, str(self.fuses), f"/proc/self/fd/{state}", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[state],
        )
        os.close(state)
        assert process.stdin is not None and process.stdout is not None
        said: dict[str, bool] = {"interrupts": False, "soft": False, "ended": False}
        fed_at = 0.0

        def hear(wait: float = 0.0) -> None:
            nonlocal fed_at
            while select.select([told], [], [], wait)[0]:
                data = os.read(told, 4096)
                if not data:
                    said["ended"] = True
                    return
                for byte in data:
                    if byte in b"ip":
                        said["interrupts"] = self.interrupts = byte == ord("i")
                    elif byte == ord("f"):
                        self.fed, fed_at = True, time.monotonic()
                    else:
                        said["soft"] = byte == ord("s")

        try:
            while not self._closed.is_set() and not self._unplugged:
                ready, _, _ = select.select([master, process.stdout, told], [], [], 0.05)
                if told in ready:
                    hear()
                if process.stdout in ready:
                    data = os.read(process.stdout.fileno(), 65536)
                    if not data:
                        break
                    data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                    self.lines += data
                    self._write(master, data)
                elif master in ready:
                    try:
                        data = os.read(master, 65536)
                    except OSError:
                        continue
                    self.received += len(data)
                    passed = self.on_input(data, self.received - len(data))
                    if passed is None:
                        return False
                    self._pass_on(passed, process, said, hear)
                if self.watchdog_s and fed_at and time.monotonic() > fed_at + self.watchdog_s:
                    return False
            hear()
            return said["soft"] and not self._unplugged
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
            os.close(told)

    def _write(self, master: int, data: bytes) -> None:
        """Write to the host, which may have stopped reading."""
        while data and not self._closed.is_set() and not self._unplugged:
            if select.select([], [master], [], 0.05)[1]:
                data = data[os.write(master, data[:256]) :]

    @staticmethod
    def _pass_on(
        data: bytes,
        process: "subprocess.Popen[bytes]",
        said: dict[str, bool],
        hear: Callable[[], None],
    ) -> None:
        assert process.stdin is not None
        for piece in re.split(b"(\x03)", data):
            hear()
            if piece == CTRL_C and said["interrupts"]:
                process.send_signal(signal.SIGINT)
            else:
                with contextlib.suppress(BrokenPipeError):
                    os.write(process.stdin.fileno(), piece)
