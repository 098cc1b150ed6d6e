"""Scan keypads: a model closes contacts between the pins that the drivers read.

Contacts bounce, stick, close together, or too fast.
"""

import sys

sys.path.append(__file__.rsplit("/", 1)[0] + "/../../../boards/UNIX")

import pins  # noqa: E402  (the path must be set first)
from expander_model import Mcp23017, Pcf8574  # noqa: E402
from harness import check, equal, raises  # noqa: E402
from warden.hal import keypad, keypad_matrix, keypad_mcp23017, keypad_pcf8574  # noqa: E402
from warden.hal.keypad import Keypad  # noqa: E402

PHONE = b"123456789*0#"
PHONE_D = b"123A456B789C*0#D"


class Ticks:
    """Time that passes when it is told to."""

    now = 0

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, a, b):
        return a - b


class Machine:
    Pin = pins.Pin


class Person:
    """At a keypad: closes contacts, and lets time pass while the driver looks at them."""

    def __init__(self, rows=4, columns=3, kind="matrix"):
        self.clock = keypad.time = Ticks()
        self.rows, self.columns = rows, columns
        self.names = PHONE if columns == 3 else PHONE_D
        if kind == "matrix":
            sys.modules["machine"] = Machine
            pins.contacts.__init__()
            try:
                lines = keypad_matrix.Matrix(range(20, 20 + rows), range(30, 30 + columns))
            finally:
                del sys.modules["machine"]
            self.closed = pins.contacts.closed
            self.first, self.second = 20, 30
        elif kind == "pcf8574":
            self.bus = Pcf8574()
            lines = keypad_pcf8574.Pcf8574(self.bus, 0x20, rows, columns)
            self.closed, self.first, self.second = self.bus.closed, 0, rows
        else:
            self.bus = Mcp23017()
            lines = keypad_mcp23017.Mcp23017(self.bus, 0x20, rows, columns)
            self.closed, self.first, self.second = self.bus.closed, 0, 8
        self.keypad = Keypad(lines, self.names)
        self.polls = 0

    def contact(self, key):
        at = self.names.find(key)
        return self.first + at // self.columns, self.second + at % self.columns

    def press(self, keys):
        for i in range(len(keys)):
            self.closed.append(self.contact(keys[i : i + 1]))

    def release(self, keys):
        for i in range(len(keys)):
            self.closed.remove(self.contact(keys[i : i + 1]))

    def wait(self, ms, late=0):
        """Poll as often as the driver wants it, and so many milliseconds later."""
        end = self.clock.now + ms
        while self.clock.now < end:
            self.clock.now += self.keypad.poll() + late
            self.polls += 1

    def got(self):
        keys = b""
        while self.keypad.keys:
            keys += bytes((self.keypad.get(),))
        return keys

    def tap(self, keys):
        for i in range(len(keys)):
            self.press(keys[i : i + 1])
            self.wait(60)
            self.release(keys[i : i + 1])
            self.wait(60)


KINDS = (("matrix", 3), ("matrix", 4), ("pcf8574", 3), ("pcf8574", 4), ("mcp23017", 4))


def test_every_key_of_every_kind():
    for kind, columns in KINDS:
        person = Person(4, columns, kind)
        person.tap(person.names)
        equal(person.got(), person.names)
        if kind != "matrix":
            equal(person.bus.shorts, 0)


def test_a_held_key_comes_once():
    for kind, columns in KINDS:
        person = Person(4, columns, kind)
        person.press(b"5")
        person.wait(5000)
        equal(person.got(), b"5")
        person.release(b"5")
        person.wait(100)
        equal(person.got(), b"")


def test_a_stuck_key_leaves_the_others():
    person = Person()
    person.press(b"5")
    person.wait(100)
    person.tap(b"1234567890*#".replace(b"5", b""))
    equal(person.got(), b"51234" + b"67890*#")


def test_bouncing():
    person = Person()
    for turn in range(50):
        person.press(b"7")
        for bounce in range(7):
            person.wait(3)
            (person.release if bounce % 2 == 0 else person.press)(b"7")
        # Closed for good now? An odd number of changes left it open.
        person.press(b"7")
        person.wait(60)
        for bounce in range(5):
            (person.release if bounce % 2 == 0 else person.press)(b"7")
            person.wait(2)
        person.wait(60)
        equal(person.got(), b"7", turn)


def test_a_contact_that_only_flickers():
    for ms in (4, 8):
        person = Person()
        for _ in range(200):
            person.press(b"3")
            person.wait(ms)
            person.release(b"3")
            person.wait(4)
        equal(person.got(), b"", ms)


def test_pressed_together():
    """Two that settle in one scan give no key: their order is not known."""
    for keys in (b"12", b"14", b"15", b"19", b"123", b"1379", b"1245"):
        person = Person()
        person.press(keys)
        person.wait(200)
        person.release(keys)
        person.wait(200)
        equal(person.got(), b"", keys)
        person.tap(b"8")
        equal(person.got(), b"8")


def test_one_after_the_other_before_the_first_is_released():
    """As fast fingers do."""
    person = Person()
    for key, other in ((b"1", b"2"), (b"2", b"5"), (b"5", b"9")):
        person.press(other if key == b"0" else key)
        person.wait(60)
        person.press(other)
        person.wait(60)
        person.release(key)
        person.wait(60)
        person.release(other)
        person.wait(60)
        equal(person.got(), key + other)


def test_ghosts():
    """Three corners of a rectangle close the fourth: in the model as on the board."""
    person = Person()
    for keys in (b"124", b"125", b"379", b"1*#", b"208"):
        for first in range(3):
            order = keys[first:] + keys[:first]
            got = b""
            for i in range(3):
                person.press(order[i : i + 1])
                person.wait(60)
            got = person.got()
            equal(got, order[:2], order)
            for i in range(3):
                person.release(order[i : i + 1])
                person.wait(60)
            equal(person.got(), b"", order)


def test_the_ghost_is_really_there():
    person = Person()
    person.press(b"124")
    equal(person.keypad._scan(), 0b011011)
    for kind in ("pcf8574", "mcp23017"):
        person = Person(4, 4, kind)
        person.press(b"125")
        equal(bin(person.keypad._scan()), "0b110011")


def test_a_key_is_known_within_40_ms():
    """Whenever in the driver's rhythm it is pressed; the rest of the 50 ms is the display's."""
    latest = 0
    for offset in range(40):
        person = Person()
        person.wait(400)
        end = person.clock.now
        # The press falls into the pause before the next look.
        person.press(b"4")
        began = end - keypad.IDLE_MS + offset % keypad.IDLE_MS + 1
        while not person.keypad.keys:
            person.clock.now += person.keypad.poll()
            check(person.clock.now < end + 100)
        latest = max(latest, person.clock.now - keypad.SCAN_MS - began)
    check(latest <= 40, latest)


def test_idle_work():
    """What an idle keypad costs: so many looks a second, each of them one read of the columns."""
    person = Person()
    person.wait(100)
    person.polls = pins.contacts.reads = pins.contacts.drives = 0
    person.wait(10000)
    check(person.polls <= 313, person.polls)
    equal((pins.contacts.reads, pins.contacts.drives), (3 * person.polls, 0))
    for kind in ("pcf8574", "mcp23017"):
        person = Person(4, 4, kind)
        person.wait(100)
        person.polls = person.bus.transfers = 0
        person.wait(10000)
        equal(person.bus.transfers, person.polls)


def test_a_thousand_keys_a_second():
    person = Person()
    for turn in range(10):
        for i in range(100):
            person.keypad.inject(PHONE[i % 12 : i % 12 + 1])
        equal(len(person.keypad.keys), 16)
        equal(person.got(), (PHONE * 2)[:16], turn)
    # As contacts: nothing is closed for long enough.
    for i in range(1000):
        person.closed.append(person.contact(PHONE[i % 12 : i % 12 + 1]))
        person.clock.now += 1
        person.keypad.poll()
        person.closed.clear()
    equal(person.got(), b"")


def test_inject():
    person = Person()
    person.keypad.inject(b"12#")
    equal(person.got(), b"12#")


def test_an_expander_that_goes_away():
    for kind in ("pcf8574", "mcp23017"):
        person = Person(4, 4, kind)
        person.bus.present = False
        failed = 0
        try:
            person.keypad.poll()
        except OSError:
            failed = 1
        equal(failed, 1)


class Wire:
    """A pin with interrupts: fall() as an edge would."""

    IRQ_FALLING = 4

    def irq(self, call, trigger):
        equal(trigger, 4)
        self.fall = lambda: call(self)


def test_interrupts():
    """Where a pin tells of a key, no poll is needed."""
    person = Person()
    check(not person.keypad.watch(id))
    told = []
    lines = person.keypad._lines
    lines._columns = [Wire() for _ in range(3)]
    check(person.keypad.watch(told.append))
    for wire in lines._columns:
        wire.fall()
    equal(len(told), 3)
    for kind, driver in (
        ("pcf8574", keypad_pcf8574.Pcf8574),
        ("mcp23017", keypad_mcp23017.Mcp23017),
    ):
        bus = Person(4, 4, kind).bus
        wire = Wire()
        check(not Keypad(driver(bus, 0x20, 4, 4), PHONE_D).watch(told.append))
        pad = Keypad(driver(bus, 0x20, 4, 4, wire), PHONE_D)
        check(pad.watch(told.append))
        wire.fall()
        check(told[-1] is wire)
        if kind == "mcp23017":
            equal(bus.registers[0x05], 0xFF)


def test_names_for_each_crossing():
    person = Person()
    for names in (b"", PHONE[:-1], PHONE_D):
        raises("no-board", Keypad, person.keypad._lines, names)
    for rows, columns in ((0, 4), (4, 0), (5, 4), (-1, 4)):
        raises("no-board", keypad_pcf8574.Pcf8574, Pcf8574(), 0x20, rows, columns)
    for rows, columns in ((0, 4), (4, 0), (9, 4), (4, 9)):
        raises("no-board", keypad_mcp23017.Mcp23017, Mcp23017(), 0x20, rows, columns)


def test_keys_from_stdin():
    """The simulated board's keyboard closes and opens each key for its time.

    Other bytes are no keys; the input may end.
    """

    class Stream:
        def __init__(self):
            self.data = b"1x55\n#"

        def read(self, count):
            out, self.data = self.data[:count], self.data[count:]
            return out

    class Poll:
        def poll(self, timeout):
            return [1]

    class Board:
        KEYPAD = ("matrix", range(20, 24), range(30, 33), PHONE)

    # Held up by something else, the driver looks too late, and must miss none all the same.
    for late in (0, 10, 70, 500):
        person = Person()
        real = pins.typist
        pins.typist = typist = pins.Typist()
        typist._keyboard, typist._keyboard_poll = Stream(), Poll()
        sys.modules["board"] = Board
        kept, pins.time = pins.time, PinTime(person.clock)
        try:
            person.wait(2000 + 100 * late, late)
        finally:
            pins.typist, pins.time = real, kept
            del sys.modules["board"]
        equal((person.got(), typist._keyboard), (b"155#", None), late)


class PinTime:
    def __init__(self, clock):
        self.clock = clock

    def ticks_ms(self):
        return self.clock.now

    def ticks_diff(self, a, b):
        return a - b

    def ticks_add(self, a, b):
        return a + b
