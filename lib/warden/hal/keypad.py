"""A keypad: pressed keys out of contacts that bounce, stick, and short each other.

    keypad = Keypad(lines, b"123456789*0#")
    while True:
        await asyncio.sleep_ms(keypad.poll())
        while keypad.keys: key = keypad.get()

A keypad on a new chip is a file keypad_KIND.py with make(args), which returns Keypad(lines, keys);
board/panel.py finds it by KEYPAD = (KIND, …) of board.py. keypad_pcf8574.py is an example.

lines: the driver of the chip or the pins, with
    rows, columns    how many there are
    drive(mask)      pull these rows low, let the others float
    read()           mask of the columns that are low
    watch(call)      have call(…) called when a column falls; False where that is not possible

While nothing is pressed all rows are low and one read shows it. A contact counts when it was the
same for SETTLE_MS. Without a diode at each key three keys at corners of a rectangle close the
fourth, so a key counts only while at most two are down, and only if it came alone; more at once
count for nothing until they are released. A key that is held, or stuck, comes once.
"""

import time

from micropython import const

from ..errors import ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Protocol

    class Lines(Protocol):
        rows: int
        columns: int

        def drive(self, mask: int) -> None: ...
        def read(self) -> int: ...
        def watch(self, call: "Callable[[Any], None] | None") -> bool: ...


IDLE_MS = const(32)
SCAN_MS = const(4)
SETTLE_MS = const(8)
_MOST = const(16)  # keys that wait; keys pressed faster than by hand are lost


class Keypad:
    """keys: the keys' ASCII codes, row by row."""

    def __init__(self, lines: "Lines", names: bytes) -> None:
        ensure(
            len(names) == lines.rows * lines.columns,
            "no-board",
            "a keypad has a key for each crossing",
        )
        self._lines = lines
        self._names = names
        self._seen = 0  # as the last scan had it
        self._since = 0  # since when, ticks
        self._down = 0  # what counts as pressed
        self.keys = bytearray()
        lines.drive((1 << lines.rows) - 1)

    def poll(self) -> int:
        """Look at the contacts; return milliseconds to the next look. OSError of an expander."""
        lines = self._lines
        if not self._seen and not self._down and not lines.read():
            return IDLE_MS
        now = time.ticks_ms()
        seen = self._scan()
        if seen != self._seen:
            self._seen, self._since = seen, now
        elif seen != self._down and time.ticks_diff(now, self._since) >= SETTLE_MS:
            self._settled(seen)
        return SCAN_MS

    def watch(self, call: "Callable[[Any], None] | None") -> bool:
        """Return whether call(…) is called for a key while poll() says IDLE_MS: then no look is
        needed.

        call: None to stop.
        """
        return self._lines.watch(call)

    def _scan(self) -> int:
        """Return a bit for each key, row by row."""
        lines = self._lines
        seen = 0
        for row in range(lines.rows):
            lines.drive(1 << row)
            seen |= lines.read() << row * lines.columns
        lines.drive((1 << lines.rows) - 1)
        return seen

    def _settled(self, seen: int) -> None:
        new = seen & ~self._down
        self._down = seen
        # One bit alone is a power of two. Two keys short nothing; with a third there may be a
        # fourth that was not pressed.
        if not new or new & (new - 1):
            return
        rest = seen ^ new
        if rest & (rest - 1):
            return
        key = 0
        while not new >> key & 1:
            key += 1
        self.inject(self._names[key : key + 1])

    def inject(self, keys: bytes) -> None:
        """Add keys as if they had been pressed."""
        self.keys += keys[: _MOST - len(self.keys)]

    def get(self) -> int:
        """Return the next key."""
        key = self.keys[0]
        self.keys = self.keys[1:]
        return key
