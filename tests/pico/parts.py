"""What is wired to the emulated board's pins: a keypad's matrix and a display of two lines.

board.py names them so:

    KEYPAD = ("matrix", (6, 7, 8, 9), (10, 11, 12), b"123456789*0#")
    DISPLAY = ("hd44780", 0, 5, 4, 0x27)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rp2040py.gpio_pin import GPIOPinState
from warden_host.sim.hd44780 import Backpack

if TYPE_CHECKING:
    from rp2040py.rp2040 import RP2040

_NS_PER_MS = 1_000_000


class Matrix:
    """A keypad: a pressed key connects its row's pin with its column's, and nothing else does."""

    ROWS, COLUMNS, KEYS = (6, 7, 8, 9), (10, 11, 12), "123456789*0#"
    # As long as a hand does, and longer than the chip verifies a signature.
    HOLD_MS, PAUSE_MS = 300, 100

    def __init__(self) -> None:
        self._waiting = ""  # keys that are pressed one after the other
        self._down = ""

    def attach(self, chip: "RP2040") -> None:
        """Wire the keypad to the pins."""
        self._rows = [chip.gpio[pin] for pin in self.ROWS]
        self._columns = [chip.gpio[pin] for pin in self.COLUMNS]
        for row in self._rows:
            row.add_listener(lambda *_: self._connect())
        self._alarm = chip.clock.create_alarm(self._move)

    def type(self, keys: str) -> None:
        """Press keys one after the other."""
        idle = not self._waiting and not self._down
        self._waiting += keys
        if idle:
            self._move()

    def _move(self) -> None:
        if self._down:
            self._down, pause = "", self.PAUSE_MS
        elif self._waiting:
            self._down, self._waiting = self._waiting[0], self._waiting[1:]
            pause = self.HOLD_MS
        else:
            return
        self._connect()
        self._alarm.schedule(pause * _NS_PER_MS)

    def _connect(self) -> None:
        """Set each column: low through a pressed key of a row that is low, or left to float."""
        at = self.KEYS.index(self._down) if self._down else -1
        row, pressed = divmod(at, len(self._columns))
        low = at >= 0 and self._rows[row].value == GPIOPinState.LOW
        for number, column in enumerate(self._columns):
            if low and number == pressed:
                column.set_input_value(False)
            else:
                column.release_input()


class Display:
    """A HD44780 of two lines behind a PCF8574 on the bus I2C 0, of which no byte is read.

    show(lines): called with both lines once they have not changed for some time.
    """

    ADDRESS = 0x27
    _SETTLED_MS = 20

    def __init__(self, show: Callable[[list[str]], None]) -> None:
        self._show = show
        self._display = Backpack()

    def attach(self, chip: "RP2040") -> None:
        """Connect the display to the bus, which has no other part."""
        bus = chip.i2c[0]

        def write(value: int) -> None:
            self._display.write(bytes((value,)))
            self._alarm.schedule(self._SETTLED_MS * _NS_PER_MS)
            bus.complete_write(True)

        def connect(address: int, _mode: Any) -> None:
            bus.complete_connect(address == self.ADDRESS)

        bus.on_connect, bus.on_write_byte = connect, write
        self._alarm = chip.clock.create_alarm(lambda: self._show(self._display.lines()))
