"""Two lines on a HD44780 behind a PCF8574: DISPLAY = ("hd44780", bus, scl, sda, address).

The driver is `machine_i2c_lcd` (python_lcd) beside the application, or any with move_to() and
putstr().
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make(args: "Any") -> "Display":
    from machine import I2C, Pin
    from machine_i2c_lcd import I2cLcd  # type: ignore[import-not-found]

    bus, scl, sda, address = args
    return Display(I2cLcd(I2C(bus, scl=Pin(scl), sda=Pin(sda), freq=100000), address, 2, 16))


class Display:
    """driver: character cells, 16 a line.

    Each line is written whole: clearing the display takes 2 ms and flickers.
    """

    def __init__(self, driver: "Any") -> None:
        self._driver = driver

    def lines(self, first: str, second: str) -> None:
        for row, text in ((0, first), (1, second)):
            self._driver.move_to(0, row)
            self._driver.putstr("%-16s" % text)
