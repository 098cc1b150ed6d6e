"""The model of a SSD1306, by its manual."""

from hypothesis import given, settings
from hypothesis import strategies as st
from warden_host.sim.ssd1306 import Oled

# As micropython-lib's driver sends them: on, upright, the charge pump.
UPRIGHT = (0xA1, 0xC8, 0x8D, 0x14, 0xAF)
GLYPHS = {bytes(range(1, 9)): "A", bytes(range(9, 17)): "B"}


def oled(width: int = 128, height: int = 64, *commands: int) -> Oled:
    made = Oled(width, height, GLYPHS)
    send(made, *UPRIGHT, *commands)
    return made


def send(display: Oled, *commands: int) -> None:
    for command in commands:
        display.write(bytes((0x80, command)))


def test_horizontal_addressing_within_a_window() -> None:
    display = oled(128, 64, 0x20, 0, 0x21, 8, 15, 0x22, 2, 3)
    display.write(b"\x40" + bytes(range(1, 17)))
    assert display.lines()[2:4] == [" A", " B"]
    # Behind the last cell comes the first.
    display.write(b"\x40" + bytes(8))
    assert display.lines()[2:4] == ["", " B"]


def test_vertical_addressing() -> None:
    display = oled(128, 64, 0x20, 1, 0x21, 0, 7, 0x22, 0, 1)
    mixed = [byte for pair in zip(range(1, 9), range(9, 17), strict=True) for byte in pair]
    display.write(b"\x40" + bytes(mixed))
    assert display.lines()[:2] == ["A", "B"]


def test_page_addressing() -> None:
    display = oled(128, 64, 0x20, 2, 0xB5, 0x08, 0x11)
    display.write(b"\x40" + bytes(range(1, 9)))
    assert display.lines()[5] == "   A"
    # The page stays, whatever comes; the column begins again.
    display.write(b"\x40" + bytes(128))
    assert display.lines() == [""] * 8


def test_commands_in_one_write_and_arguments_in_another() -> None:
    display = oled()
    display.write(b"\x00\x20\x00\x21")
    display.write(b"\x00\x10")
    display.write(b"\x00\x17\xb0")
    display.write(b"\x40" + bytes(range(9, 17)))
    assert display.lines()[0] == "  B"


def test_small_modules() -> None:
    # 128 by 32: 32 rows are driven, and the driver says so.
    display = oled(128, 32, 0xA8, 31, 0x20, 0, 0x22, 0, 3)
    display.write(b"\x40" + bytes(range(1, 9)))
    assert display.lines() == ["A", "", "", ""]
    # 64 wide: in the middle of the chip's columns.
    display = oled(64, 32, 0xA8, 31, 0x20, 0, 0x21, 32, 95, 0x22, 0, 3)
    display.write(b"\x40" + bytes(range(1, 9)))
    assert display.lines()[0] == "A"


def test_turned_inverted_lit_and_off() -> None:
    display = oled(8, 8, 0x20, 0, 0x21, 60, 67, 0xA8, 15)
    display.write(b"\x40" + bytes(range(1, 9)))
    upright = display.picture()
    assert upright == bytes(range(1, 9))
    send(display, 0xA7)
    assert display.picture() == bytes(255 - byte for byte in upright)
    send(display, 0xA6, 0xA5)
    assert display.picture() == b"\xff" * 8
    send(display, 0xAE)
    assert display.picture() == bytes(8)
    send(display, 0xAF, 0xA4)
    assert display.picture() == upright
    # The order of the columns counts for what is written from now on; that of the rows at once.
    send(display, 0xA0)
    assert display.picture() == upright
    send(display, 0x21, 60, 67, 0x22, 0, 7)
    display.write(b"\x40" + bytes(range(1, 9)))
    assert display.picture() == upright[::-1]
    send(display, 0x81, 7)
    assert display.shown()["contrast"] == 7


def test_start_line_and_offset() -> None:
    display = oled(128, 64, 0x20, 0)
    display.write(b"\x40" + bytes(range(1, 9)))
    send(display, 0x40 | 56)
    assert display.lines()[:2] == ["", "A"]
    send(display, 0x40, 0xD3, 48)
    assert display.lines()[2] == "A"


@given(st.lists(st.binary(max_size=60), max_size=12))
@settings(max_examples=25, deadline=None)
def test_any_bytes(writes: list[bytes]) -> None:
    display = Oled(128, 16)
    for data in writes:
        display.write(data)
    assert len(display.picture()) == 256
