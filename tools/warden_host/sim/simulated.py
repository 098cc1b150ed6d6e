"""Run a simulated device: the real firmware on the unix port, restarted when it resets."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from warden_host import filelock, jsontext
from warden_host.childprocess import terminate, tie_to_us
from warden_host.devices import provision
from warden_host.errors import HostError
from warden_host.fleet import device_tree
from warden_host.sim.keyboard import Keyboard
from warden_host.sim.watchdog import BITTEN, FILE, Watchdog
from warden_host.stopping import LineReader, Stop

if TYPE_CHECKING:
    from warden_host.sim.wires import Wires  # asyncio would be loaded for it

# Exit codes of the unix port: 0 from a soft reset, 3 from machine.reset() of boards/UNIX.
# An end by the watchdog counts as 3.
_RESETS = (0, 3)
_BITTEN = 3
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
_LONG_RUN_S = 30.0
_POLL_S = 0.02  # for the exit code of a process whose output has ended
MAX_LINE = 4096


class SimulatedDevice:
    """One run of the device's process, which stop() ends by its pid.

    wires: to what shows its pins, bus, flash and network. environment: of the process; None: ours.
    """

    def __init__(
        self,
        home: Path,
        heapsize: str = "",
        lock: filelock.Lock | None = None,
        pin: bytes = b"",
        keyboard: Keyboard | None = None,
        wires: "Wires | None" = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        check(home)
        ends = wires.arguments() if wires else ()
        argv = provision.device_argv(device_tree.tree(), home, *ends, heapsize=heapsize)
        self._fuses = home / "fuses"
        dog = Watchdog(self._fuses / FILE)
        try:
            self.process = subprocess.Popen(
                tie_to_us(argv) if lock else argv,
                stdin=subprocess.PIPE if pin or keyboard else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=((lock.fileno(),) if lock else ()) + (wires.fds if wires else ()),
                start_new_session=True,  # Ctrl-C is for us: we end it
                env=environment,
            )
        except OSError as error:
            raise HostError("micropython-missing", f"it can't be run: {error.strerror}") from None
        if pin and self.process.stdin is not None:
            # A device that ended before it asked for the PIN says why in its lines.
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(pin + b"\n")
                self.process.stdin.flush()
        self._keyboard = keyboard
        if keyboard is not None:
            keyboard.attach(self.process)
        self._ended = threading.Event()
        self._bitten = False
        threading.Thread(target=dog.guard, args=(self._ended, self._bite), daemon=True).start()

    def _bite(self) -> None:
        self._bitten = True
        (self._fuses / BITTEN).touch()
        self.process.kill()

    def lines(self, show: Callable[[str], None], stop: Stop | None = None) -> int:
        """Call show with each line until the process ends; return its exit code.

        stop: ends the process.
        """
        stream = self.process.stdout
        if stream is not None:
            readline = (
                stream.readline if stop is None else LineReader(stream.fileno(), stop).readline
            )
            while line := readline(MAX_LINE):
                show(jsontext.printable(line.decode(errors="replace").rstrip(os.linesep)))
        while stop is not None and self.process.poll() is None:
            if stop.wait(_POLL_S):
                terminate(self.process)
        code = self.process.wait()
        self._ended.set()
        if not self._bitten:
            return code
        show("-- the watchdog was not fed: it resets the board --")
        return _BITTEN

    def stop(self) -> None:
        """End the process, and close its pipes."""
        self._ended.set()
        if self._keyboard is not None:
            self._keyboard.attach(None)
        terminate(self.process)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> "SimulatedDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run(
    home: Path,
    heapsize: str,
    once: bool,
    show: Callable[[str], None],
    stop: Stop,
    pin: bytes = b"",
    keyboard: Keyboard | None = None,
) -> int:
    """Run the device, again after each reset unless once; return the last exit code, 0 on a stop.

    pin: typed at each start.
    keyboard: types on the keypad.
    Raises device-unknown, also for a device that was wiped; device-running.
    """
    check(home)
    restarts = Restarts()
    with alone(home) as lock:
        while True:
            check_not_wiped(home)
            restarts.begin()
            with SimulatedDevice(home, heapsize, lock, pin, keyboard) as device:
                code = device.lines(show, stop)
            if stop.requested:
                return 0
            pause = restarts.pause(code)
            if once or pause is None:
                return code
            show(f"-- it reset; starts again in {pause:g} s --")
            if stop.wait(pause):
                return 0


class Restarts:
    """Slow a board down that resets again and again."""

    def __init__(self) -> None:
        self._began = 0.0
        self._count = 0

    def begin(self) -> None:
        """Note a start."""
        self._began = time.monotonic()

    def pause(self, code: int) -> float | None:
        """Return the seconds until the next start; None after an exit code that is no reset."""
        if code not in _RESETS:
            return None
        if time.monotonic() - self._began > _LONG_RUN_S:
            self._count = 0
        found = _BACKOFF_S[min(self._count, len(_BACKOFF_S) - 1)]
        self._count += 1
        return found


@contextlib.contextmanager
def alone(home: Path) -> Iterator[filelock.Lock]:
    """Hold the lock of the device, so that one process runs it.

    Two processes with one account would disconnect each other from the broker forever. The lock
    file is beside the folder, which provisioning makes anew; the child holds it too.
    """
    path = home.parent / f"{home.name}.lock"  # no device's folder: an ID holds no dot
    lock = filelock.try_lock(path)
    if lock is None:
        raise HostError(
            "device-running",
            f"{home.name} runs already{filelock.holder_hint(path)}: two would share one board",
            f"stop the other `warden run {home.name}` first",
        )
    with lock:
        lock.file.truncate(0)
        lock.file.write(str(os.getpid()))
        lock.file.flush()
        yield lock


def check_not_wiped(home: Path) -> None:
    """Raise device-unknown for a device that was wiped.

    A wipe removes the vault's key last, so a board whose wipe was cut still has it and ends the
    wipe at its next start.
    """
    vault = home / "root" / "data"
    if vault.is_dir() and not any(vault.iterdir()):
        raise HostError(
            "device-unknown",
            f"{home.name} was wiped: it has no secrets to run with",
            "provision it again as a simulated device",
        )


def check(home: Path) -> None:
    """Raise device-unknown unless the folder holds a simulated device."""
    if not (home / "root" / "main.py").is_file():
        raise HostError(
            "device-unknown",
            f"there is no simulated device {home.name}",
            "provision it as a simulated device; `warden devices` lists them",
        )
