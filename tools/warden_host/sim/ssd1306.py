"""A SSD1306: the pixels that it shows after the bytes that came over the bus.

By Solomon Systech's manual: control bytes, commands, the three ways of addressing its memory. What
moves the picture by itself (scrolling, fading) is taken and not done.
"""

import base64
from collections.abc import Mapping
from typing import Any

ADDRESS = 0x3C
COLUMNS, PAGES = 128, 8
ROWS = PAGES * 8
_CONTINUES, _DATA = 0x80, 0x40  # bits of a control byte
_HORIZONTAL, _VERTICAL, _PAGE = range(3)
# Bytes that follow a command.
_ARGUMENTS = {
    0x20: 1, 0x21: 2, 0x22: 2, 0x23: 1, 0x26: 6, 0x27: 6, 0x29: 5, 0x2A: 5, 0x81: 1, 0x8D: 1,
    0xA3: 2, 0xA8: 1, 0xD3: 1, 0xD5: 1, 0xD6: 1, 0xD9: 1, 0xDA: 1, 0xDB: 1,
}  # fmt: skip


class Oled:
    """A module of width by height pixels around the chip.

    glyphs: eight columns of a character → the character, to read the picture with.
    """

    kind = "ssd1306"

    def __init__(self, width: int, height: int, glyphs: Mapping[bytes, str] | None = None) -> None:
        self.width, self.height = min(width, COLUMNS), min(height, ROWS)
        self._glyphs = glyphs or {}
        self._memory = bytearray(COLUMNS * PAGES)
        self.on = self.inverted = self.all_on = False
        self.contrast = 0x7F
        self._mode = _PAGE
        self._columns, self._pages = (0, COLUMNS - 1), (0, PAGES - 1)
        self._column = self._page = 0
        self._mirrored = self._from_below = False
        self._start = self._offset = 0
        self._rows = ROWS  # that are driven
        self._command = bytearray()

    def write(self, data: bytes) -> None:
        """Take a write: control bytes, each before one byte or before all that follow."""
        at = 0
        while at < len(data):
            control = data[at]
            end = at + 2 if control & _CONTINUES else len(data)
            for byte in data[at + 1 : end]:
                if control & _DATA:
                    self._put(byte)
                else:
                    self._take(byte)
            at = end

    def _put(self, byte: int) -> None:
        column = COLUMNS - 1 - self._column if self._mirrored else self._column
        self._memory[self._page * COLUMNS + column] = byte
        if self._mode == _VERTICAL:
            if self._next_page():
                self._next_column()
        elif self._next_column() and self._mode == _HORIZONTAL:
            self._next_page()

    def _next_column(self) -> bool:
        """Move on; return whether it began again."""
        first, last = (0, COLUMNS - 1) if self._mode == _PAGE else self._columns
        over = self._column == last
        self._column = first if over else (self._column + 1) % COLUMNS
        return over

    def _next_page(self) -> bool:
        over = self._page == self._pages[1]
        self._page = self._pages[0] if over else (self._page + 1) % PAGES
        return over

    def _take(self, byte: int) -> None:
        self._command.append(byte)
        first, arguments = self._command[0], self._command[1:]
        if len(arguments) < _ARGUMENTS.get(first, 0):
            return
        self._command = bytearray()
        self._obey(first, arguments)

    def _obey(self, first: int, arguments: bytearray) -> None:
        if first in _ARGUMENTS:
            self._set(first, arguments)
        elif first < 0x10:
            self._column = self._column & 0x70 | first
        elif first < 0x20:
            self._column = (first & 0x07) << 4 | self._column & 0x0F
        elif 0x40 <= first < 0x80:
            self._start = first & 0x3F
        elif first & 0xFE == 0xA0:
            self._mirrored = bool(first & 1)
        elif first & 0xFE == 0xA4:
            self.all_on = bool(first & 1)
        elif first & 0xFE == 0xA6:
            self.inverted = bool(first & 1)
        elif first & 0xFE == 0xAE:
            self.on = bool(first & 1)
        elif first & 0xF8 == 0xB0:
            self._page = first & 0x07
        elif first & 0xF0 == 0xC0:
            self._from_below = bool(first & 0x08)

    def _set(self, first: int, arguments: bytearray) -> None:
        if first == 0x20 and arguments[0] & 3 < 3:
            self._mode = arguments[0] & 3
        elif first == 0x21:
            self._columns = arguments[0] & 0x7F, arguments[1] & 0x7F
            self._column = self._columns[0]
        elif first == 0x22:
            self._pages = arguments[0] & 0x07, arguments[1] & 0x07
            self._page = self._pages[0]
        elif first == 0x81:
            self.contrast = arguments[0]
        elif first == 0xA8 and arguments[0] & 0x3F >= 15:
            self._rows = (arguments[0] & 0x3F) + 1
        elif first == 0xD3:
            self._offset = arguments[0] & 0x3F

    def _pixel(self, x: int, y: int) -> bool:
        """Return whether a pixel of the module is lit: the glass is mounted upside down.

        A module that is narrower than the chip has its columns in the middle.
        """
        column = COLUMNS - 1 - ((COLUMNS - self.width) // 2 + x)
        row = y if self._from_below else self._rows - 1 - y
        row = (row + self._start + self._offset) % ROWS
        lit = bool(self._memory[row // 8 * COLUMNS + column] >> row % 8 & 1)
        return self.on and (self.all_on or lit != self.inverted)

    def picture(self) -> bytes:
        """Return the pixels, columns of eight as in a framebuf: the lowest bit is the upper."""
        return bytes(
            sum(self._pixel(x, 8 * page + bit) << bit for bit in range(8))
            for page in range(self.height // 8)
            for x in range(self.width)
        )

    def lines(self) -> list[str]:
        """Return what a person reads: characters of the glyphs at multiples of eight pixels."""
        picture = self.picture()
        found = []
        for at in range(0, len(picture), self.width):
            row = picture[at : at + self.width]
            cells = [row[x : x + 8] for x in range(0, self.width - 7, 8)]
            found.append("".join(self._glyphs.get(cell, " ") for cell in cells).rstrip())
        return found

    def shown(self) -> dict[str, Any]:
        """Return what a page draws."""
        return {
            "kind": self.kind,
            "lines": self.lines(),
            "width": self.width,
            "height": self.height // 8 * 8,
            "pixels": base64.b64encode(self.picture()).decode(),
            "on": self.on,
            "contrast": self.contrast,
        }
