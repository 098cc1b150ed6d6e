"""A keypad on a MCP23017.

KEYPAD = ("mcp23017", bus, scl, sda, address, rows, columns, keys, interrupt). GPA0 and up are
rows, GPB0 and up columns. interrupt: the pin that its INTB is wired to, or None.

A row that is not driven is an input, a driven one an output whose latch is 0 (Microchip's data
sheet, registers with IOCON.BANK = 0): nothing is ever driven high.
"""

from micropython import const

from ..errors import ensure
from .keypad import Keypad

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_IODIRA = const(0x00)
_GPINTENB = const(0x05)
_GPPUB = const(0x0D)
_GPIOB = const(0x13)
_OLATA = const(0x14)


def make(args: "Any") -> Keypad:
    from machine import I2C, Pin

    bus, scl, sda, address, rows, columns, keys, interrupt = args
    i2c = I2C(bus, scl=Pin(scl), sda=Pin(sda), freq=400000)
    pin = None if interrupt is None else Pin(interrupt, Pin.IN, Pin.PULL_UP)
    return Keypad(Mcp23017(i2c, address, rows, columns, pin), keys)


class Mcp23017:
    """i2c: writeto_mem() and readfrom_mem(), as machine.I2C."""

    def __init__(
        self, i2c: "Any", address: int, rows: int, columns: int, interrupt: "Any" = None
    ) -> None:
        ensure(0 < rows <= 8 and 0 < columns <= 8, "no-board", "a MCP23017 has 8 pins a port")
        self._i2c = i2c
        self._address = address
        self.rows, self.columns = rows, columns
        # The latches first: a row that becomes an output must be low at once.
        i2c.writeto_mem(address, _OLATA, b"\x00")
        i2c.writeto_mem(address, _GPPUB, b"\xff")
        self._interrupt = interrupt

    def watch(self, call: "Any") -> bool:
        if self._interrupt is None:
            return False
        # INTB falls when a column differs from what it was, until the port is read.
        self._i2c.writeto_mem(self._address, _GPINTENB, b"\xff")
        self._interrupt.irq(call, self._interrupt.IRQ_FALLING)
        return True

    def drive(self, mask: int) -> None:
        self._i2c.writeto_mem(self._address, _IODIRA, bytes((0xFF & ~mask,)))

    def read(self) -> int:
        value: int = self._i2c.readfrom_mem(self._address, _GPIOB, 1)[0]
        return ~value & (1 << self.columns) - 1
