"""The model of a HD44780 behind a PCF8574, by the manuals' own examples."""

from hypothesis import given, settings
from hypothesis import strategies as st
from warden_host.sim.hd44780 import Backpack

E, RS, RW, LIGHT = 4, 1, 2, 8


def half(pins: int) -> bytes:
    return bytes((pins | LIGHT | E, pins | LIGHT))


class Driver:
    """Sends instructions and characters as halves, as every driver of the backpack does."""

    def __init__(self, lines: int = 2, begin: bool = True) -> None:
        self.display = Backpack()
        if begin:
            # "Initializing by instruction", figure 24 of the manual.
            for nibble in (0x30, 0x30, 0x30, 0x20):
                self.display.write(half(nibble))
            self.instruct(0x28 if lines == 2 else 0x20, 0x0C, 0x06, 0x01)

    def instruct(self, *values: int) -> None:
        for value in values:
            self.display.write(half(value & 0xF0) + half(value << 4 & 0xF0))

    def put(self, text: bytes) -> None:
        for value in text:
            self.display.write(half(value & 0xF0 | RS) + half(value << 4 & 0xF0 | RS))

    @property
    def lines(self) -> list[str]:
        return self.display.lines()


def test_two_lines_and_what_stands_behind_them() -> None:
    driver = Driver()
    driver.put(b"Code? 5 min")
    driver.instruct(0x80 | 0x40)
    driver.put(b"***")
    assert driver.lines == ["Code? 5 min", "***"]
    # Behind cell 40 of a line comes the other one.
    driver.instruct(0x80 | 0x27)
    driver.put(b"xy")
    assert driver.lines == ["Code? 5 min", "y**"]
    driver.instruct(0x80 | 0x67)
    driver.put(b"xz")
    assert driver.lines[0] == "zode? 5 min"


def test_a_character_alone_leaves_the_others() -> None:
    driver = Driver()
    driver.put(b"abc")
    driver.instruct(0x02)
    driver.put(b"X")
    assert driver.lines == ["Xbc", ""]
    driver.instruct(0x01)
    assert driver.lines == ["", ""]


def test_entry_from_right_to_left_and_a_display_that_moves() -> None:
    driver = Driver()
    driver.instruct(0x80 | 3, 0x04)
    driver.put(b"abc")
    assert driver.lines[0] == " cba"
    driver = Driver()
    driver.put(b"abc")
    driver.instruct(0x18)  # to the left
    assert driver.lines[0] == "bc"
    driver.instruct(0x1C, 0x1C)
    assert driver.lines[0] == " abc"
    driver.instruct(0x02)
    assert driver.lines[0] == "abc"


def test_switched_off_and_on_again() -> None:
    driver = Driver()
    driver.put(b"abc")
    driver.instruct(0x08)
    assert driver.lines == ["", ""] and not driver.display.shown()["on"]
    driver.instruct(0x0E)
    assert driver.lines[0] == "abc"
    assert driver.display.shown()["cursor"] == (3, 0)
    driver.instruct(0x80 | 0x41)
    assert driver.display.shown()["cursor"] == (1, 1)
    driver.instruct(0x80 | 0x20)
    assert driver.display.shown()["cursor"] is None


def test_nothing_is_shown_before_it_was_switched_on() -> None:
    driver = Driver(begin=False)
    assert driver.display.lines() == ["", ""]
    # Whole bytes, of which four lines are connected: each half is one.
    driver.put(b"a")
    driver.display.write(half(0xC0 | RS))
    assert driver.display.lines() == ["", ""]


def test_light_and_read() -> None:
    driver = Driver()
    driver.put(b"a")
    driver.display.write(bytes((E | RS | RW, 0)))
    assert driver.lines[0] == "a"
    assert not driver.display.light
    driver.display.write(bytes((LIGHT,)))
    assert driver.display.light


def test_characters_of_the_program_and_of_the_rom() -> None:
    driver = Driver()
    driver.instruct(0x40 | 8)
    driver.put(bytes((0x1F, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1F, 0)))
    driver.instruct(0x80)
    driver.put(bytes((1, 9, 0x5C, 0x7E, 0x7F, 0xB1, 0xDF, 0xE1, 0xFF)))
    shown = driver.display.shown()
    assert shown["own"][0][:3] == [1, 1, None]
    assert shown["characters"][1] == [0x1F, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1F, 0]
    assert driver.lines[0][2:] == "¥→←ｱﾟä█"


def test_the_cursor_moves_within_the_programs_own_characters() -> None:
    driver = Driver()
    driver.instruct(0x40 | 0x3F, 0x14)  # behind the last row comes the first
    driver.put(b"\x01")
    driver.instruct(0x10, 0x10)
    driver.put(b"\x02")
    own = driver.display.shown()["characters"]
    assert own[0][0] == 1 and own[7][7] == 2


def test_one_line() -> None:
    driver = Driver(lines=1)
    driver.put(b"x" * 17)
    assert driver.lines == ["x" * 16, ""]


@given(st.binary(max_size=400))
@settings(max_examples=40, deadline=None)
def test_any_bytes(data: bytes) -> None:
    display = Backpack()
    display.write(half(0x20) + data)
    shown = display.shown()
    assert [len(row) for row in shown["cells"]] == [16, 16]
    assert all(len(cell) == 1 for row in shown["cells"] for cell in row)
