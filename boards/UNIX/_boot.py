"""What a board's firmware does before boot.py: mount the filesystem. For the unix port.

    micropython boards/UNIX/_boot.py ROOT FUSES              boots the board whose "/" is ROOT
    micropython boards/UNIX/_boot.py ROOT FUSES provision    provisions it from standard input
    micropython boards/UNIX/_boot.py ROOT FUSES run OUT IN   boots it with its wires on two pipes

FUSES is the folder of the chip's fuses, apart from "/": a copy of the flash is a copy of ROOT
alone.
"""

import os
import sys
import time

import vfs


class Folder:
    """A folder of the host, mounted.

    VfsPosix alone would do, but its rename() mixes up both paths when it has a root (MicroPython
    1.28).
    """

    def __init__(self, path):
        if not path.startswith("/"):
            path = os.getcwd() + "/" + path  # the working directory is about to change
        self._path = path
        self._host = vfs.VfsPosix()
        self._inside = vfs.VfsPosix(path)

    def __getattr__(self, name):
        return getattr(self._inside, name)

    def rename(self, old, new):
        self._host.rename(self._path + old, self._path + new)


class Chip:
    """`machine` of this board: pins with a keypad's contacts (pins.py), a watchdog (watchdog.py),
    a serial port (uart.py), and deep sleep without memory that outlives it.

    Loaded when a driver asks for them.
    """

    PWRON_RESET = 1
    WDT_RESET = 3

    def __init__(self, path):
        self._path = path
        self.cause = self.PWRON_RESET

    def reset_cause(self):
        return self.cause

    def deepsleep(self, ms):
        try:
            os.remove("/fuses/watchdog")  # it sleeps too
        except OSError:
            pass
        time.sleep_ms(ms)
        sys.exit(3)  # RESET of hal/system.py

    def __getattr__(self, name):
        if name not in ("Pin", "UART", "WDT"):
            raise AttributeError(name)
        vfs.mount(self._path, "/chip")
        try:
            if name != "Pin":
                return run("/chip/watchdog.py" if name == "WDT" else "/chip/uart.py")[name]
            self.Pin = run("/chip/pins.py")[name]
        finally:
            vfs.umount("/chip")
        return self.Pin


def run(path):
    with open(path) as file:
        code = compile(file.read(), path, "exec")
    names = {"__name__": "__main__"}
    exec(code, names)
    return names


chip = sys.modules["machine"] = Chip(
    Folder(__file__.rsplit("/", 1)[0] if "/" in __file__ else ".")
)
root, fuses = Folder(sys.argv[1]), Folder(sys.argv[2])
task = sys.argv[3] if len(sys.argv) > 3 else "run"
if len(sys.argv) > 4:
    # Of the host's filesystem, like their paths.
    names = run(__file__.rsplit("/", 1)[0] + "/wires.py")
    wires = names["Wires"](open(sys.argv[4], "wb"), open(sys.argv[5], "rb"))  # noqa: SIM115
    root = names["Flash"](root, wires)
    names["install"](chip, wires)
vfs.umount("/")
vfs.mount(root, "/")
vfs.mount(fuses, "/fuses")
os.chdir("/")
try:
    os.remove("/fuses/bitten")  # `warden run` leaves it when the watchdog bites
    chip.cause = chip.WDT_RESET
except OSError:
    pass

run("/boot.py")
if len(sys.argv) > 4:
    names["watch"](wires)
    del names, wires
if task == "provision":
    exec(
        "from warden.provisioning.provision import main; sys.exit(main())"
    )  # compiled only here: its names would stay in the heap
run("/main.py")
