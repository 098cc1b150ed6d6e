"""A HD44780 behind a PCF8574: what its display shows after the bytes that came over the bus.

By the manuals: Hitachi's of the HD44780U (instructions, memories, four-bit interface), and the
PCF8574 backpack's wiring. Nothing is read back, as no driver of such a backpack does. Imports
nothing of warden_host: the tests run it in the interpreter that has rp2040py.
"""

from typing import Any

COLUMNS, ROWS = 16, 2
# The expander's pins: register select, read, enable, the light, and the upper four data lines.
_REGISTER, _READ, _ENABLE, _LIGHT, _DATA = 1, 2, 4, 8, 0xF0
_LINE = 40  # cells of a line's memory
_SECOND = 0x40  # where the second line begins
_ONE_LINE = 80  # cells, where the display has one line
_CUSTOM = 8  # characters of the program's own
# The character ROM A00: ASCII but for these, and half-width katakana from 0xA1 on.
_OTHER = {0x5C: "¥", 0x7E: "→", 0x7F: "←"}
_KATAKANA = range(0xA1, 0xE0)
_FROM_E0 = "αäβεµσρg√⁻jˣ¢£ñöpqθ∞ΩüΣπxy千万円÷ █"  # noqa: RUF001


class Controller:
    """The HD44780. Each instruction or character comes as a whole byte."""

    def __init__(self) -> None:
        self.on = False
        self.cursor = False
        self._cells = bytearray(b" " * _ONE_LINE)
        self._characters = bytearray(8 * _CUSTOM)
        self._at = 0  # in the cells' memory, or in that of the characters
        self._in_characters = False
        self._step = 1
        self._moves_display = False
        self._two_lines = False
        self._shift = 0

    def write(self, value: int) -> None:
        """Take a character, or a row of a character of the program's own."""
        if self._in_characters:
            self._characters[self._at] = value & 0x1F
            self._at = self._next(self._at, self._step)
            return
        self._cells[self._place(self._at)] = value
        self._at = self._next(self._at, self._step)
        if self._moves_display:
            self._shift += self._step

    def instruct(self, value: int) -> None:
        """Obey an instruction: the highest bit that is set names it."""
        if value & 0x80:
            self._at, self._in_characters = value & 0x7F, False
        elif value & 0x40:
            self._at, self._in_characters = value & 0x3F, True
        elif value & 0x20:
            self._two_lines = bool(value & 0x08)
        elif value & 0x10:
            step = 1 if value & 0x04 else -1
            if value & 0x08:
                self._shift -= step
            else:
                self._at = self._next(self._at, step)
        elif value & 0x08:
            self.on, self.cursor = bool(value & 0x04), bool(value & 0x02)
        elif value & 0x04:
            self._step = 1 if value & 0x02 else -1
            self._moves_display = bool(value & 0x01)
        elif value:
            self._at, self._shift, self._in_characters = 0, 0, False
            if value & 0x01:
                self._cells[:] = b" " * len(self._cells)
                self._step = 1

    def _next(self, at: int, step: int) -> int:
        """Return the address beside another one; behind the last one comes the first."""
        if self._in_characters:
            return (at + step) % len(self._characters)
        if not self._two_lines:
            return (at + step) % _ONE_LINE
        place = (self._place(at) + step) % (2 * _LINE)
        return place if place < _LINE else place - _LINE + _SECOND

    def _place(self, at: int) -> int:
        if not self._two_lines:
            return at % _ONE_LINE
        return (at - _SECOND) % _LINE + _LINE if at >= _SECOND else at % _LINE

    def rows(self) -> list[bytes]:
        """Return the codes of the cells that are seen."""
        if not self.on:
            return [b" " * COLUMNS] * ROWS
        if not self._two_lines:
            found = [self._cells[(self._shift + x) % _ONE_LINE] for x in range(COLUMNS)]
            return [bytes(found), b" " * COLUMNS]
        return [
            bytes(self._cells[row * _LINE + (self._shift + x) % _LINE] for x in range(COLUMNS))
            for row in range(ROWS)
        ]

    def at(self) -> tuple[int, int] | None:
        """Return column and row of the cursor, or None where none is seen."""
        if not self.on or not self.cursor or self._in_characters:
            return None
        place = self._place(self._at)
        row, column = divmod(place, _LINE) if self._two_lines else (0, place)
        column = (column - self._shift) % (_LINE if self._two_lines else _ONE_LINE)
        return (column, row) if column < COLUMNS else None

    def own_characters(self) -> list[list[int]]:
        """Return the rows of each character of the program's own, five bits each."""
        return [list(self._characters[8 * one : 8 * one + 8]) for one in range(_CUSTOM)]


class Backpack:
    """The expander, and the display behind it."""

    kind = "hd44780"

    def __init__(self) -> None:
        self.controller = Controller()
        self.light = True  # its pins are high before the first byte
        self._pins = 0xFF
        self._high: int | None = None  # the first half of a byte
        self._halves = False  # a byte comes in two halves

    def write(self, data: bytes) -> None:
        """Take a write to the expander: each byte sets its pins."""
        for pins in data:
            before, self._pins = self._pins, pins
            self.light = bool(pins & _LIGHT)
            # The controller reads the data lines as Enable falls.
            if before & _ENABLE and not pins & _ENABLE and not before & _READ:
                self._half(before & _DATA, bool(before & _REGISTER))

    def _half(self, half: int, register: bool) -> None:
        if not self._halves:
            # The lower four data lines are not connected.
            self._take(half, register)
        elif self._high is None:
            self._high = half
        else:
            value, self._high = self._high | half >> 4, None
            self._take(value, register)

    def _take(self, value: int, register: bool) -> None:
        if register:
            self.controller.write(value)
            return
        if value & 0xE0 == 0x20:  # Function Set: four or eight data lines
            self._halves = not value & 0x10
        self.controller.instruct(value)

    def lines(self) -> list[str]:
        """Return what a person reads, without the spaces at the end."""
        return ["".join(map(_character, row)).rstrip() for row in self.controller.rows()]

    def shown(self) -> dict[str, Any]:
        """Return what a page draws."""
        return {
            "kind": self.kind,
            "lines": self.lines(),
            "cells": [list(map(_character, row)) for row in self.controller.rows()],
            # Which of them are characters of the program's own.
            "own": [
                [cell & 7 if cell < 16 else None for cell in row] for row in self.controller.rows()
            ],
            "characters": self.controller.own_characters(),
            "on": self.controller.on,
            "light": self.light,
            "cursor": self.controller.at(),
        }


def _character(cell: int) -> str:
    if cell in _KATAKANA:
        return chr(0xFF61 + cell - _KATAKANA.start)
    if cell >= 0xE0:
        return _FROM_E0[cell - 0xE0]
    if cell in _OTHER:
        return _OTHER[cell]
    return chr(cell) if 0x20 <= cell < 0x7F else " " if cell >= 16 else "▯"
