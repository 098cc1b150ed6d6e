"""A keypad on a MCP23017: KEYPAD = ("mcp23017", bus, scl, sda, address, rows, columns, keys). GPA0 and up are rows, GPB0 and up columns.

A row that is not driven is an input, a driven one an output whose latch is 0 (Microchip's data sheet, registers with IOCON.BANK = 0): nothing is ever
driven high.
"""

from micropython import const

from ..errors import ensure
from .keypad import Keypad

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_IODIRA = const(0x00)
_GPPUB = const(0x0D)
_GPIOB = const(0x13)
_OLATA = const(0x14)


def make(args: "Any") -> Keypad:
    from machine import I2C, Pin

    bus, scl, sda, address, rows, columns, keys = args
    i2c = I2C(bus, scl=Pin(scl), sda=Pin(sda), freq=400000)
    return Keypad(Mcp23017(i2c, address, rows, columns), keys)


class Mcp23017:
    """i2c: writeto_mem() and readfrom_mem(), as machine.I2C."""

    def __init__(self, i2c: "Any", address: int, rows: int, columns: int) -> None:
        ensure(0 < rows <= 8 and 0 < columns <= 8, "no-board", "a MCP23017 has 8 pins a port")
        self._i2c = i2c
        self._address = address
        self.rows, self.columns = rows, columns
        # The latches first: a row that becomes an output must be low at once.
        i2c.writeto_mem(address, _OLATA, b"\x00")
        i2c.writeto_mem(address, _GPPUB, b"\xff")

    def drive(self, mask: int) -> None:
        self._i2c.writeto_mem(self._address, _IODIRA, bytes((0xFF & ~mask,)))

    def read(self) -> int:
        value: int = self._i2c.readfrom_mem(self._address, _GPIOB, 1)[0]
        return ~value & (1 << self.columns) - 1
