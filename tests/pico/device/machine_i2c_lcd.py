"""Write on a HD44780 behind a PCF8574, in halves of bytes: what hal/display_hd44780.py needs of a
driver. Runs as /app/machine_i2c_lcd.py.

The pins of the expander: register select, read, enable, light, and the upper four data lines.
"""

import time

_ENABLE = 4
_LIGHT = 8


class I2cLcd:
    def __init__(self, i2c, address, rows, columns):
        self._i2c = i2c
        self._address = address
        self._pins = bytearray(2)
        time.sleep_ms(20)
        for half in (0x30, 0x30, 0x30, 0x20):
            self._write_half(half)
            time.sleep_ms(5)
        # Two lines, no cursor, from left to right, cleared.
        for command in (0x28, 0x0C, 0x06, 0x01):
            self._write(command, 0)
            time.sleep_ms(2)

    def move_to(self, column, row):
        self._write(0x80 | row * 0x40 + column, 0)

    def putstr(self, text):
        for char in text:
            self._write(ord(char), 1)

    def _write(self, value, register):
        self._write_half(value & 0xF0 | register)
        self._write_half(value << 4 & 0xF0 | register)

    def _write_half(self, pins):
        self._pins[0] = pins | _LIGHT | _ENABLE
        self._pins[1] = pins | _LIGHT
        self._i2c.writeto(self._address, self._pins)
