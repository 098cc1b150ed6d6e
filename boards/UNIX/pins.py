"""The simulated board's pins, a matrix of contacts between them, and the typing of keys.

_boot.py makes it `machine.Pin`, loaded when first asked for. Rows and columns are those of
board.KEYPAD. Each character of standard input that is a key closes its contact for 60 ms and
leaves it open for 60 ms; longer where the driver, held up by a hand-shake, has not looked often
enough. The
driver really scans: a column is low when closed contacts, one or several, join it to a row that is
driven low.
"""

import select
import sys
import time

CLOSED_MS = 60
OPEN_MS = 60


class Contacts:
    """The closed crossings, and the pins that pull low.

    A column's level follows from contact to contact, as current does: three closed ones at corners
    of a rectangle close the fourth.
    """

    def __init__(self):
        self.closed = []  # (row pin, column pin)
        self.low = []
        self.drives = self.reads = 0

    def is_low(self, pin):
        self.reads += 1
        joined = [pin]
        for here in joined:  # grows on the way
            if here in self.low:
                return True
            for row, column in self.closed:
                other = column if here == row else row if here == column else None
                if other is not None and other not in joined:
                    joined.append(other)
        return False


contacts = Contacts()


class Pin:
    IN, OUT, OPEN_DRAIN, PULL_UP = 0, 1, 2, 1
    on_output = None  # called with an output's name and level, where something shows it

    def __init__(self, pin, mode=IN, pull=None, value=None):
        self._pin = pin
        self._output = mode == Pin.OUT
        if value is None:
            value = not self._output  # as an RP2040's: an output begins low
        self._level = 1 if value else 0
        self._drives = mode == Pin.OPEN_DRAIN
        if self._output and Pin.on_output is not None:
            Pin.on_output(pin, self._level)
        if self._drives:
            self(value)

    def __call__(self, value=None):
        if value is None and self._output:
            return self._level
        if value is None:
            typist.type(time.ticks_ms())
            return 0 if contacts.is_low(self._pin) else 1
        contacts.drives += 1
        self._level = 1 if value else 0
        if self._output and Pin.on_output is not None:
            Pin.on_output(self._pin, self._level)
        if self._drives:
            if self._pin in contacts.low:
                contacts.low.remove(self._pin)
            if not value:
                contacts.low.append(self._pin)

    value = __call__

    def on(self):
        self(1)

    def off(self):
        self(0)

    def toggle(self):
        self(not self._level)


class Typist:
    """Types what comes in; nothing at the end of the input, ever."""

    def __init__(self, stream=None):
        self._keyboard = stream
        self._keyboard_poll = select.poll()
        if stream is not None:
            self._keyboard_poll.register(stream, select.POLLIN)
        self._next = None
        self._looks = 0

    def type(self, now):
        if self._keyboard is None or contacts.reads < self._looks:
            return
        if self._next is not None and time.ticks_diff(now, self._next) < 0:
            return
        if contacts.closed:
            contacts.closed.clear()
            self._next = time.ticks_add(now, OPEN_MS)
            self._looks = contacts.reads + self._scans
        elif self._keyboard_poll.poll(0):
            key = self._keyboard.read(1)
            if not key:
                self._keyboard = None
                return
            import board

            _, rows, columns, keys = board.KEYPAD
            at = keys.find(key)
            if at >= 0:
                contacts.closed.append((rows[at // len(columns)], columns[at % len(columns)]))
                self._next = time.ticks_add(now, CLOSED_MS)
                # Three scans, the look before them, and not the last read of the third.
                self._scans = 3 * len(keys) + len(columns) + 1
                self._looks = contacts.reads + self._scans


typist = Typist(sys.stdin.buffer if __name__ == "__main__" else None)
