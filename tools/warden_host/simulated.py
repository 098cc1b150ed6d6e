"""Running a simulated device: the real firmware on the unix port, restarted when it resets."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from warden_host import jsontext, layout, provision
from warden_host.child import end
from warden_host.errors import HostError

# How the unix port ends: 0 from a soft reset, 3 from machine.reset() of boards/UNIX.
_RESETS = (0, 3)
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
_LONG_RUN_S = 30.0
MAX_LINE = 4096


class SimulatedDevice:
    """One run of the device's process, ended by its own pid."""

    def __init__(self, home: Path, heapsize: str = "") -> None:
        if not (home / "root" / "main.py").is_file():
            raise HostError(
                "device-unknown",
                f"there is no simulated device {home.name}",
                "make it with `warden provision DEVICE --type TYPE --sim`",
            )
        argv = provision.command(layout.tree(), home, heapsize=heapsize)
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we end it
            )
        except OSError as error:
            raise HostError("micropython-missing", f"it can't be run: {error.strerror}") from None

    def lines(self, show: Callable[[str], None]) -> int:
        """Hands over each line until the process ends; its exit code."""
        stream = self.process.stdout
        while stream is not None:
            line = stream.readline(MAX_LINE)
            if not line:
                break
            show(jsontext.printable(line.decode(errors="replace").rstrip(os.linesep)))
        return self.process.wait()

    def stop(self) -> None:
        end(self.process)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> "SimulatedDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run(home: Path, heapsize: str, once: bool, show: Callable[[str], None]) -> int:
    """Runs the device, again after every reset unless once; the last exit code."""
    restarts = 0
    while True:
        began = time.monotonic()
        with SimulatedDevice(home, heapsize) as device:
            code = device.lines(show)
        if once or code not in _RESETS:
            return code
        if time.monotonic() - began > _LONG_RUN_S:
            restarts = 0
        pause = _BACKOFF_S[min(restarts, len(_BACKOFF_S) - 1)]
        restarts += 1
        show(f"-- it reset; starts again in {pause:g} s --")
        time.sleep(pause)
