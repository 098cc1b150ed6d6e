"""The watchdog against a model of machine.WDT: it can't be stopped, and resets a late board."""

import asyncio
import sys
import time

from harness import check, equal, raises
from warden.board import load, slots
from warden.errors import UsageError


class WDT:
    """As the manual says: a time-out in milliseconds, feed(), and no way to stop it."""

    made = []

    def __init__(self, id=0, timeout=5000):
        check(not WDT.made, "a second one")
        self.timeout = timeout
        self.fed = []
        WDT.made.append(self)

    def feed(self):
        self.fed.append(time.ticks_ms())


class Machine:
    WDT = WDT


class Short(WDT):
    """An RP2040's: machine.WDT refuses what is beyond its reach."""

    def __init__(self, id=0, timeout=5000):
        if timeout > 8388:
            raise ValueError("timeout exceeds 8388")
        super().__init__(id, timeout)


class Timer:
    """machine.Timer of rp2: -1 is one of its own software's."""

    made = []

    def __init__(self, id, period, callback):
        equal(id, -1)
        self.period, self.callback = period, callback
        Timer.made.append(self)


class Pico:
    WDT = Short
    Timer = Timer


def fresh(machine=Machine):
    WDT.made.clear()
    for name in ("warden.hal.watchdog",):
        sys.modules.pop(name, None)
    real = sys.modules.get("machine")
    sys.modules["machine"] = machine
    try:
        module = __import__("warden.hal.watchdog", None, None, ("start",))
    finally:
        if real is None:
            del sys.modules["machine"]
        else:
            sys.modules["machine"] = real
    sys.modules["warden.hal"].watchdog = module
    return module


def test_one_dog_for_all():
    watchdog = fresh()
    check(watchdog.start(8000) == watchdog.start(8000))
    equal([dog.timeout for dog in WDT.made], [8000])


def test_refused():
    for machine, wanted in ((Machine, 4999), (Machine, 0), (object(), 8000)):
        watchdog = fresh(machine)
        check(isinstance(raises("no-board", watchdog.start, wanted), UsageError))
        equal(WDT.made, [])
    fresh().start(5000)


def test_longer_than_the_chip_reaches():
    """A timer feeds it while the loop may block: a DNS query takes longer than 8 s."""
    watchdog = fresh(Pico)
    Timer.made.clear()
    feed = watchdog.start(30000)
    [dog], [timer] = WDT.made, Timer.made
    check(dog.timeout <= 8388)
    check(timer.period * 3 < dog.timeout)
    for _ in range(2):
        feed()
        del dog.fed[:]
        for _ in range(100):
            timer.callback(timer)
        # So often, and then no more: the chip bites.
        equal(len(dog.fed), 30)
    check(watchdog.start(30000) == feed)
    # One within the chip's reach needs no timer.
    fresh(Pico).start(8000)
    equal((WDT.made[0].timeout, len(Timer.made)), (8000, 1))


def test_every_board_has_one():
    """Without it an application or an update that hangs is for ever."""
    here = __file__.rsplit("/", 1)[0] + "/../../../boards/"
    boards = (
        "ESP32_GENERIC ESP32_GENERIC_C3 ESP32_GENERIC_C6 ESP32_GENERIC_S3 RPI_PICO2_W RPI_PICO_W"
    )
    for name in boards.split() + ["UNIX", "UNIX_PIN"]:
        names = {}
        with open(here + name + "/board.py") as file:
            exec(file.read(), names)
        check(names["WATCHDOG"] >= 20000, name)  # a look-up that two servers don't answer


def test_the_loop_feeds_it():
    watchdog = fresh()

    async def live():
        watchdog.keep(5000)
        fed = WDT.made[0].fed
        while len(fed) < 2:
            await asyncio.sleep_ms(50)
        before = list(fed)
        time.sleep_ms(1200)  # code that blocks the loop is not fed for
        equal(fed, before)

    asyncio.run(live())


def test_it_is_fed_ten_times_in_its_time_out():
    watchdog, waits, sleep_ms = fresh(), [], asyncio.sleep_ms

    async def live():
        asyncio.sleep_ms = lambda wait: waits.append(wait) or sleep_ms(0)
        watchdog.keep(20000)
        while len(waits) < 2:
            await sleep_ms(0)

    try:
        asyncio.run(live())
    finally:
        asyncio.sleep_ms = sleep_ms
    equal(waits[:2], [2000, 2000])


class Vault:
    def names(self):
        return []

    def close(self):
        pass


class Board:
    WATCHDOG = 8000


class Plain:
    pass


def test_a_start_passes_the_watchdog_to_the_boot():
    """After the vault is open, which may take long; only where the board names a watchdog."""
    given = []
    for board, expected in ((Board, [8000]), (Plain, [])):
        fresh()
        order = []
        given.clear()

        def start(vault, made, attempts, on_damage, feed):
            given.append(feed)
            return BootResult()

        class BootResult:
            mode = "recovery"

        def open_board(ask=None, board=board, order=order):
            order.append(len(WDT.made))
            return board, Vault()

        kept = load.open_board, load.find, sys.path[:]
        from warden.ota import boot

        real, boot.start = boot.start, start
        load.open_board, load.find = open_board, lambda *_: lambda args: None
        sys.path.append("/app")
        try:
            slots.boot_slots(("partition", "/x", ("app",), 3))
        finally:
            load.open_board, load.find, sys.path[:] = kept
            boot.start = real
        equal(order, [0])
        equal([dog.timeout for dog in WDT.made], expected)
        if expected:
            equal(given, [WDT.made[0].feed])
        else:
            equal(given, [None])
