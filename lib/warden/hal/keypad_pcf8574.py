"""A keypad on a PCF8574.

KEYPAD = ("pcf8574", bus, scl, sda, address, rows, columns, keys, interrupt). P0 and up are rows,
the pins after them columns. interrupt: the pin that its INT is wired to, or None.

Its eight pins are quasi-bidirectional (NXP's data sheet, §8): a pin written 1 is an input with a
weak pull-up, one written 0 pulls low. So nothing is ever driven high. INT falls when an input
changes, until the next read (§8.3.2).
"""

from ..errors import ensure
from .keypad import Keypad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make(args: "Any") -> Keypad:
    from machine import I2C, Pin

    bus, scl, sda, address, rows, columns, keys, interrupt = args
    i2c = I2C(bus, scl=Pin(scl), sda=Pin(sda), freq=100000)
    pin = None if interrupt is None else Pin(interrupt, Pin.IN, Pin.PULL_UP)
    return Keypad(Pcf8574(i2c, address, rows, columns, pin), keys)


class Pcf8574:
    """i2c: writeto(address, data) and readfrom(address, n), as machine.I2C."""

    def __init__(
        self, i2c: "Any", address: int, rows: int, columns: int, interrupt: "Any" = None
    ) -> None:
        ensure(
            rows > 0 and columns > 0 and rows + columns <= 8, "no-board", "a PCF8574 has 8 pins"
        )
        self._i2c = i2c
        self._address = address
        self.rows, self.columns = rows, columns
        self._interrupt = interrupt

    def watch(self, call: "Any") -> bool:
        if self._interrupt is None:
            return False
        self._interrupt.irq(call, self._interrupt.IRQ_FALLING)
        return True

    def drive(self, mask: int) -> None:
        self._i2c.writeto(self._address, bytes((0xFF & ~mask,)))

    def read(self) -> int:
        value: int = self._i2c.readfrom(self._address, 1)[0]
        return ~value >> self.rows & (1 << self.columns) - 1
