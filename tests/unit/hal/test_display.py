"""Two lines on whatever shows them."""

import builtins

from harness import equal
from warden.hal import display_console, display_hd44780, display_ssd1306


class Frame:
    """A framebuf driver: 8 pixels a character."""

    def __init__(self):
        self.calls = []

    def fill(self, colour):
        self.calls.append(("fill", colour))

    def text(self, text, x, y):
        self.calls.append((text, x, y))

    def show(self):
        self.calls.append("show")


class Cells:
    """A character display of 2 × 16."""

    def __init__(self):
        self.rows = [bytearray(b"?" * 16), bytearray(b"?" * 16)]
        self.at = (0, 0)

    def move_to(self, x, y):
        self.at = (x, y)

    def putstr(self, text):
        x, y = self.at
        self.rows[y][x : x + len(text)] = text.encode()
        equal(len(self.rows[y]), 16)


def test_framebuf():
    driver = Frame()
    display_ssd1306.Display(driver).lines("Code? 5 min", "***")
    equal(driver.calls, [("fill", 0), ("Code? 5 min", 0, 0), ("***", 0, 16), "show"])


def test_cells():
    driver = Cells()
    display = display_hd44780.Display(driver)
    display.lines("Code? 5 min", "******")
    equal(driver.rows, [b"Code? 5 min     ", b"******          "])
    # A shorter text leaves nothing of the longer one.
    display.lines("Open", "")
    equal(driver.rows, [b"Open            ", b" " * 16])


def test_console():
    said = []
    display_console.print = lambda text: said.append(text)
    try:
        display_console.make(()).lines("Code?", "**")
    finally:
        display_console.print = builtins.print
    equal(said, ["display Code?|**"])
