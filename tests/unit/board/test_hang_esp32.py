"""An update that hangs, by a model of the ESP32's watchdog: undone after the starts it may have.

The parts of a start that firmware/boot.py and firmware/main.py call run as they are; the model is
that of the chip, its time among it.
"""

import sys

import vfs
from board_model import RootKey
from harness import check, equal
from update_kit import ATTEMPTS, MOUNT, Board, Slot, image
from warden import unload
from warden.board import app_failures, load, slots
from warden.hal import reset_cause
from warden.ota.slots import CONFIRMED, FAILED, STAGED, SlotRecord

WATCHDOG_MS = 30000  # boards/ESP32_GENERIC/board.py
START_MS = 2000  # that a start may take before its watchdog runs, and to load the application


class Reset(Exception):
    """Ends a start: nothing in the library may catch it and go on."""


class Chip:
    """machine of an ESP32, and its time.

    The watchdog is that of MicroPython's task: no timer and no interrupt feeds it, any time-out
    is within its reach, it can't be stopped, and it ends the start by a panic, after which
    ESP-IDF names the task's watchdog as the cause (ESP_RST_TASK_WDT).
    """

    PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5

    def __init__(self):
        self.cause = self.PWRON_RESET
        self.now = 0
        self.limit = None

    def reset_cause(self):
        return self.cause

    def WDT(self, id=0, timeout=5000):  # noqa: N802  (machine's name)
        check(self.limit is None, "a second one")

        class WDT:
            def feed(dog):
                self.limit = self.now + timeout

        dog = WDT()
        dog.feed()
        return dog

    def spend(self, ms):
        """Let time pass without the event loop: the watchdog may bite."""
        if self.limit is not None and self.now + ms >= self.limit:
            self.now, self.cause, self.limit = self.limit, self.WDT_RESET, None
            raise Reset()
        self.now += ms

    def hang(self):
        """`while True: pass`."""
        check(self.limit is not None, "no watchdog ends it")
        self.spend(self.limit - self.now)


class Esp32:
    """A board whose slots hold an application that runs and an update that hangs."""

    STORE = ROOT_KEY = ()
    WATCHDOG = WATCHDOG_MS
    SLOTS = ("file", MOUNT + "/slots", ("app",), ATTEMPTS)

    def __init__(self):
        self.chip = Chip()
        self.flash = flash = Board()
        vault = flash.vault()
        record = SlotRecord(vault)
        for number, (state, name) in enumerate(((CONFIRMED, "old"), (STAGED, "new"))):
            part = [flash.put(number, image(name))]
            record._set(number, Slot((state, 0, number + 1, 0, part)))
        record._commit({"sequence": 1})
        vault.close()
        self.ms = []

    def __enter__(self):
        self.kept = (load.store, load.root_key, load.find, reset_cause.machine, reset_cause.sys)
        self.kept += (sys.modules.get("machine"), sys.path[:])
        load.store, load.root_key = lambda _: self.flash.make_store(), lambda *_: RootKey()
        load.find = lambda *_: lambda _: self.flash.slots()
        reset_cause.machine, reset_cause.sys = self.chip, self
        self.platform = "esp32"
        sys.modules["machine"], sys.modules["board"] = self.chip, Esp32
        return self

    def __exit__(self, *_):
        load.store, load.root_key, load.find, reset_cause.machine, reset_cause.sys = self.kept[:5]
        del sys.modules["board"], load.opened[:]
        if self.kept[5] is None:
            del sys.modules["machine"]
        else:
            sys.modules["machine"] = self.kept[5]
        sys.path[:] = self.kept[6]
        unload("warden.hal.watchdog")
        app_failures._pause_ms = 0
        self.flash.off()

    def start(self):
        """Return the version that runs, "" where none is to run; Reset when it hangs."""
        self.flash.power_on()
        unload("warden.hal.watchdog")
        del load.opened[:]
        sys.path.append("/app")
        self.chip.limit = None
        began = self.chip.now
        try:
            slots.boot_slots(Esp32.SLOTS)
            held = load.app_held()
            self.chip.spend(START_MS)
            version = ""
            if "/app" in sys.path and not held:
                with open("/app/app.py") as file:
                    version = file.read().split("'")[1]
            if version == "new":
                self.chip.hang()
            return version
        finally:
            while "/app" in sys.path:
                sys.path.remove("/app")
            self.ms.append(self.chip.now - began)
            vfs.umount("/app")


def test_an_update_that_hangs_is_undone():
    with Esp32() as board:
        for _ in range(ATTEMPTS):
            try:
                check(False, board.start())
            except Reset:
                pass
        equal(board.start(), "old")
        hung = board.ms[:ATTEMPTS]
        equal(len(hung), 2)
        check(max(hung) < START_MS + WATCHDOG_MS, hung)
        check(sum(hung) <= 2 * (START_MS + WATCHDOG_MS), hung)
        vault = board.flash.vault()
        record = SlotRecord(vault)
        equal([slot.state for slot in record.slots], [CONFIRMED, FAILED])
        # The old application's start is none of a row; the authority hears of both hangs.
        equal(app_failures._load(vault)[:3], [0, 2, "watchdog"])
        vault.close()
        equal(board.start(), "old")


def test_a_hang_is_told_from_a_power_up_meanwhile():
    """The power goes in the first hang: the start has counted all the same."""
    with Esp32() as board:
        try:
            board.start()
        except Reset:
            board.chip.cause = Chip.PWRON_RESET
        try:
            check(False, board.start())
        except Reset:
            pass
        equal(board.start(), "old")
        vault = board.flash.vault()
        equal(app_failures._load(vault)[:3], [0, 1, "watchdog"])
        vault.close()
