"""A keypad on a PCF8574: KEYPAD = ("pcf8574", bus, scl, sda, address, rows, columns, keys). P0 and up are rows, the pins after them columns.

Its eight pins are quasi-bidirectional (NXP's data sheet, §8): a pin written 1 is an input with a weak pull-up, one written 0 pulls low. So a row is
driven low against columns that are weakly high, and nothing is ever driven high.
"""

from ..errors import ensure
from .keypad import Keypad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make(args: "Any") -> Keypad:
    from machine import I2C, Pin

    bus, scl, sda, address, rows, columns, keys = args
    i2c = I2C(bus, scl=Pin(scl), sda=Pin(sda), freq=100000)
    return Keypad(Pcf8574(i2c, address, rows, columns), keys)


class Pcf8574:
    """i2c: writeto(address, data) and readfrom(address, n), as machine.I2C."""

    def __init__(self, i2c: "Any", address: int, rows: int, columns: int) -> None:
        ensure(
            rows > 0 and columns > 0 and rows + columns <= 8, "no-board", "a PCF8574 has 8 pins"
        )
        self._i2c = i2c
        self._address = address
        self.rows, self.columns = rows, columns

    def drive(self, mask: int) -> None:
        self._i2c.writeto(self._address, bytes((0xFF & ~mask,)))

    def read(self) -> int:
        value: int = self._i2c.readfrom(self._address, 1)[0]
        return ~value >> self.rows & (1 << self.columns) - 1
