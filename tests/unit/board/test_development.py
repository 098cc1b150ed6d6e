"""Development mode: who may ask for it, how it ends, and that nothing of it is silent."""

import sys

from agent_kit import FLOOR, NOW, Clock, Rig, provisioned
from harness import check, equal, raises
from incident_kit import collect
from test_bundle import good
from test_policy import DEFAULT
from warden.agent.device import Device
from warden.board import development, load
from warden.errors import PeerError, StoreError
from warden.hal import clock_rtc, console
from warden.vault import records
from warden.wire import cbor


def device(allowed=True):
    """Return the vault of a device whose policy allows development mode, or does not."""
    bundle, policy = good(), dict(DEFAULT)
    policy.update({"v": 3, "strict": False, "otp": None, "development": allowed})
    bundle["policy"] = cbor.encode(policy)
    return provisioned(bundle)


class Chip:
    """Stands for `machine` and `micropython`. level: of the pin."""

    PERIODIC = 1

    def __init__(self, level):
        chip = self
        self.level, self.resets, self.keys, self.look = level, 0, [], None
        self.timers = 0

        class Pin:
            IN, PULL_UP, PULL_DOWN = 0, 1, 2

            def __init__(self, pin, mode, pull):
                chip.pull = pull

            def __call__(self):
                return chip.level

        class Timer:
            PERIODIC = 1

            def __init__(self, number):
                chip.timers += 1

            def deinit(self):
                chip.timers -= 1

            def init(self, period, mode, callback):
                equal((period, mode), (1000, Timer.PERIODIC))
                chip.look = callback

        self.Pin, self.Timer = Pin, Timer

    def reset(self):
        self.resets += 1

    def kbd_intr(self, key):
        self.keys.append(key)


class Files:
    """Stands for `os` and open(): /console.open, and no other file."""

    def __init__(self):
        self.text = None

    def open(self, path, mode="r"):
        equal(path, "/console.open")
        if mode == "w":
            self.text = ""
        elif self.text is None:
            raise OSError(2)
        return self

    def write(self, text):
        self.text += text

    def read(self, most):
        return self.text[:most]

    def remove(self, path):
        if self.text is None:
            raise OSError(2)
        self.text = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


files = Files()
console.os, console.open = files, files.open


class Board:
    NAME = "TEST"
    STORE = ("file", "/vault")
    ROOT_KEY = ("chip", "/salt")
    CLOCK = ("system",)
    NETWORK = "wired"
    FLOOR = FLOOR


class Jumper(Board):
    DEVELOPMENT = ("pin", 2, 0)


def run(function, *args, chip=None):
    """Call the function with this chip in the place of the interpreter's modules."""
    from warden.hal import system

    chip = Chip(1) if chip is None else chip
    saved = console.machine, console.micropython, system.console_open
    console.machine = console.micropython = chip
    try:
        return function(*args), system.console_open
    finally:
        console.machine, console.micropython, system.console_open = saved
        system.console_timer = None


def order(vault, seconds=600, starts=100):
    vault.put("development", cbor.encode([1, NOW + seconds, starts, seconds]))
    return vault


def tick(chip, times):
    """Let the timer look so often, or until it restarts the board; return how often it did."""
    for turn in range(times):
        if chip.resets:
            return turn
        run(chip.look, None, chip=chip)
    return times


def test_nothing_asks_for_it():
    for board in (Board, Jumper):
        chip = Chip(1)
        equal(run(development.start, board, device(), Clock(), chip=chip), ("", False))
        equal(chip.keys, [])


def test_a_pin_that_is_held():
    chip = Chip(0)
    equal(run(development.start, Jumper, device(), Clock(), chip=chip), ("pin", True))
    equal((chip.keys, chip.pull), ([3], chip.Pin.PULL_UP))
    for _ in range(100):
        run(chip.look, None, chip=chip)
    equal(chip.resets, 0)
    # The jumper is taken away: the console is open no longer.
    chip.level = 1
    run(chip.look, None, chip=chip)
    equal(chip.resets, 1)


def test_a_pin_that_is_held_high():
    class High(Board):
        DEVELOPMENT = ("pin", 2, 1)

    chip = Chip(1)
    equal(run(development.start, High, device(), Clock(), chip=chip), ("pin", True))
    equal(chip.pull, chip.Pin.PULL_DOWN)


def test_an_order():
    vault = order(device(), 3)
    chip = Chip(1)
    equal(run(development.start, Board, vault, Clock(), chip=chip), ("order", True))
    equal(records.load(vault, "development"), [1, NOW + 3, 99, 3])
    for resets in (0, 0, 1):
        run(chip.look, None, chip=chip)
        equal(chip.resets, resets)


def test_an_order_on_a_board_whose_clock_starts_anew():
    """As an RP2's at each reset: at the mark, which may be hours before the order."""
    early, vault = Clock(), order(device())
    early.time = NOW - 5 * 3600
    chip = Chip(1)
    equal(run(development.start, Board, vault, early, chip=chip), ("order", True))
    equal(tick(chip, 1000), 600)
    # Its own reset: over, and the record is gone.
    equal(run(development.start, Board, vault, early), ("", False))
    equal(vault.get("development"), None)
    equal(files.text, None)


def test_a_power_cut_gives_back_five_minutes_at_most():
    vault = order(device(), 3600)
    early = Clock()
    early.time = NOW - 5 * 3600
    lasted = []
    while not lasted or lasted[-1] == 1000:
        chip = Chip(1)
        equal(run(development.start, Board, vault, early, chip=chip), ("order", True))
        lasted.append(tick(chip, 1000))
    equal(lasted, [1000, 1000, 1000, 900])


def test_another_order_has_its_own_time():
    vault, chip = order(device(), 600), Chip(1)
    run(development.start, Board, vault, Clock(), chip=chip)
    tick(chip, 600)
    equal(run(development.start, Board, order(vault, 900), Clock()), ("order", True))
    equal(records.load(vault, "development"), [1, NOW + 900, 99, 900])


def test_a_soft_reset_takes_the_timer_with_it():
    """boot.py starts it again, for what is left by the file and by the clock."""
    now = clock_rtc.ChipClock().now()
    chip = Chip(1)
    run(console.open_console, now + 600, 400, None, chip=chip)
    after = Chip(1)
    equal(run(console.resume, Board, chip=after), (None, False))
    equal((after.keys, after.timers), ([], 1))
    equal(tick(after, 1000), 400)
    # Over: nothing starts it, and a start of main.py forgets it.
    over = Chip(1)
    run(console.resume, Board, chip=over)
    equal((over.look, over.resets), (None, 0))
    # The clock went on while the file stayed.
    run(console.open_console, now + 5, 400, None, chip=Chip(1))
    after = Chip(1)
    run(console.resume, Board, chip=after)
    check(tick(after, 1000) <= 5)


def test_main_py_takes_the_timer_of_boot_py():
    """Ctrl-D in the REPL: both run, and one timer does."""
    until, chip = clock_rtc.ChipClock().now() + 600, Chip(1)

    def both():
        console.open_console(until, 600, None)
        console.resume(Board)
        equal(chip.timers, 1)
        console.open_console(until, 600, None)

    run(both, chip=chip)
    equal(chip.timers, 1)
    console.close()


def test_a_soft_reset_with_the_pin():
    run(development.start, Jumper, device(), Clock(), chip=Chip(0))
    after = Chip(0)
    run(console.resume, Jumper, chip=after)
    equal(tick(after, 100), 100)
    after.level = 1
    equal(tick(after, 100), 1)
    # Taken away: no timer, which would restart the board before main.py looks.
    gone = Chip(1)
    run(console.resume, Jumper, chip=gone)
    equal((gone.look, gone.resets), (None, 0))


def test_a_full_flash_keeps_no_file():
    def full(path, mode):
        raise OSError(28)

    console.open, chip = full, Chip(1)
    try:
        run(console.open_console, NOW + 600, 600, None, chip=chip)
        equal(tick(chip, 1000), 600)
    finally:
        console.open = files.open


def test_what_is_no_file_of_ours():
    for text in ("", "1", "a b", "1 2 3", "99999999999 600" * 9):
        files.text = text
        chip = Chip(1)
        equal(run(console.resume, Board, chip=chip), (None, False))
        equal((chip.look, chip.keys), (None, []))
    console.close()


def test_a_start_without_it_stops_the_timer_of_boot_py():
    """A board that was provisioned anew in between, say: its application is not ended."""
    chip = Chip(1)
    run(console.open_console, clock_rtc.ChipClock().now() + 600, 600, None, chip=Chip(1))

    def starts():
        console.resume(Board)
        equal(chip.timers, 1)
        load.opened.append(device(False))
        sys.modules["board"] = Board
        try:
            return load.parts()[5]
        finally:
            del sys.modules["board"]

    equal(run(starts, chip=chip), ("", False))
    equal((chip.timers, chip.keys), (0, []))
    chip = Chip(1)
    run(console.resume, Board, chip=chip)
    equal(chip.timers, 0)


def test_what_the_flash_can_not_count_opens_nothing():
    class Full:
        def __init__(self, vault):
            self.get, self.names, self.counter = vault.get, vault.names, vault.counter
            self.code = "vault-limit"

        def commit(self, records):
            raise StoreError(self.code, "")

    vault, chip = Full(order(device())), Chip(1)
    equal(run(development.start, Board, vault, Clock(), chip=chip), ("", False))
    equal(chip.keys, [])
    # The pin asks for no record.
    equal(run(development.start, Jumper, vault, Clock(), chip=Chip(0)), ("pin", True))
    vault.code = "filesystem"
    raises("filesystem", run, development.start, Board, vault, Clock())
    console.close()


def test_an_order_that_is_over():
    """By the clock, by the authority's time where the clock starts anew, by its starts."""
    late = Clock()
    late.time = NOW + 600
    behind = device()
    behind.commit({}, {"time": NOW + 600})

    class Floor(Board):
        FLOOR = NOW + 600

    new = Clock()
    new.time = 0
    for board, vault, clock in (
        (Board, order(device()), late),
        (Board, order(behind), new),
        (Floor, order(device()), new),
        (Board, order(device(), starts=0), Clock()),
    ):
        equal(run(development.start, board, vault, clock), ("", False))
        equal(vault.get("development"), None)


def test_a_policy_that_forbids_it():
    """Neither a pin nor a record opens the console."""
    for vault in (device(False), provisioned()):
        chip = Chip(0)
        got = run(development.start, Jumper, order(vault), Clock(), chip=chip)
        equal((got, chip.keys), (("", False), []))


def test_no_watchdog_ends_a_console():
    fed = []

    class Dog:
        @staticmethod
        def keep(timeout_ms):
            fed.append(timeout_ms)

    class Watched(Jumper):
        WATCHDOG = 30000

    saved = sys.modules.get("warden.hal.watchdog")
    sys.modules["warden.hal.watchdog"] = sys.modules["warden.hal"].watchdog = Dog
    sys.modules["board"] = Watched
    try:
        for level, wanted in ((0, []), (1, [30000])):
            load.opened.append(device())
            parts, is_open = run(load.parts, chip=Chip(level))
            equal((fed, parts[5], is_open), (wanted, "" if level else "pin", not level))
    finally:
        del sys.modules["board"], sys.modules["warden.hal.watchdog"]
        del sys.modules["warden.hal"].watchdog
        if saved is not None:
            sys.modules["warden.hal.watchdog"] = sys.modules["warden.hal"].watchdog = saved


def test_it_is_never_silent():
    """The log, an incident, and each hello say so."""
    logged = []
    made = Device(
        device(), Clock(), None, FLOOR, lambda *both: logged.append(both), development="pin"
    )
    equal(logged, [("development", "pin")])
    incident = collect(made._agent.incidents)
    equal(incident, [{"code": "development", "n": 1, "at": "pin"}])
    check(made._agent.development)


def hello(development):
    """Return the fields of a hello of this device."""
    rig = Rig(device())
    rig.agent.development = development
    rig.start_without_tasks()
    sent = []
    from warden.wire import envelope

    saved = envelope.build_mac0
    envelope.build_mac0 = lambda key, kid, payload, aad: sent.append(payload) or b""
    try:
        rig.agent.sessions[0]._build_hello(0)
    finally:
        envelope.build_mac0 = saved
    return cbor.decode(sent[0])


def test_the_hello():
    equal(len(hello(False)), 7)
    equal(hello(True)[7:], [True])


def test_the_command():
    import asyncio

    for seconds in (60, 86400):
        rig = Rig(device()).start_without_tasks()
        args = {"device": "lamp-1", "seconds": seconds}
        equal(rig.agent.run_authority_command("develop", args), {"seconds": seconds})
        vault = rig.agent.vault
        equal(records.load(vault, "development"), [1, NOW + seconds, 100, seconds])
        asyncio.run(rig.agent.after_reply(rig.agent))
        equal(rig.restarts, 1)
    rig = Rig(order(device())).start_without_tasks()
    rig.agent.run_authority_command("develop", {"device": "lamp-1", "seconds": 0})
    equal(rig.agent.vault.get("development"), None)


def test_refused_commands():
    rig = Rig(device()).start_without_tasks()
    for args in (
        {},
        {"device": "lamp-1"},
        {"device": "lamp-2", "seconds": 600},
        {"device": "lamp-1", "seconds": 59},
        {"device": "lamp-1", "seconds": 86401},
        {"device": "lamp-1", "seconds": -1},
        {"device": "lamp-1", "seconds": True},
        {"device": "lamp-1", "seconds": "600"},
        {"device": "lamp-1", "seconds": 600, "more": 1},
    ):
        raises("bad-body", rig.agent.run_authority_command, "develop", args)
        equal([i["code"] for i in rig.incidents()], ["bad-body"])
    for vault in (device(False), provisioned()):
        rig = Rig(vault).start_without_tasks()
        args = {"device": "lamp-1", "seconds": 600}
        error = raises("not-allowed", rig.agent.run_authority_command, "develop", args)
        check(isinstance(error, PeerError))
        equal([(i["code"], i["at"]) for i in rig.incidents()], [("not-allowed", "develop")])
        equal((vault.get("development"), rig.agent.after_reply), (None, None))
