"""Two lines on a SSD1306 OLED: DISPLAY = ("ssd1306", bus, scl, sda, width, height).

The driver is micropython-lib's `ssd1306` beside the application, or any with fill(), text() and
show(), as a framebuf has.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make(args: "Any") -> "Display":
    from machine import I2C, Pin
    from ssd1306 import SSD1306_I2C  # type: ignore[import-not-found]

    bus, scl, sda, width, height = args
    return Display(SSD1306_I2C(width, height, I2C(bus, scl=Pin(scl), sda=Pin(sda), freq=400000)))


class Display:
    """driver: framebuf-like, 8 pixels a character."""

    def __init__(self, driver: "Any") -> None:
        self._driver = driver

    def lines(self, first: str, second: str) -> None:
        driver = self._driver
        driver.fill(0)
        driver.text(first, 0, 0)
        driver.text(second, 0, 16)
        driver.show()
