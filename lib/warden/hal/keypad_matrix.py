"""A keypad whose rows and columns are pins: KEYPAD = ("matrix", rows, columns, keys).

Rows are open drain, so two keys of a column never join a high output with a low one. Columns have
the chip's pull-ups.
"""

from .keypad import Keypad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make(args: "Any") -> Keypad:
    rows, columns, keys = args
    return Keypad(Matrix(rows, columns), keys)


class Matrix:
    """rows, columns: the numbers or names of pins."""

    def __init__(self, rows: "Any", columns: "Any") -> None:
        from machine import Pin

        self._rows = [Pin(pin, Pin.OPEN_DRAIN, value=1) for pin in rows]
        self._columns = [Pin(pin, Pin.IN, Pin.PULL_UP) for pin in columns]
        self.rows, self.columns = len(rows), len(columns)

    def drive(self, mask: int) -> None:
        for pin in self._rows:
            pin(not mask & 1)
            mask >>= 1

    def watch(self, call: "Any") -> bool:
        for pin in self._columns:
            if not hasattr(pin, "irq"):
                return False  # a model's
            pin.irq(call, pin.IRQ_FALLING)
        return True

    def read(self) -> int:
        low = 0
        bit = 1
        for pin in self._columns:
            if not pin():
                low |= bit
            bit <<= 1
        return low
