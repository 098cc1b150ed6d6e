"""A watchdog of a longer time-out than the chip's.

An RP2040's reaches 8,388 ms (its data sheet, §4.7.2: a counter of 24 bits that goes down twice a
microsecond); a look-up of a host name without an answer takes longer, and lets timers in
meanwhile.
"""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_PERIOD_MS = const(1000)
_REACH_MS = const(8300)


class Extended:
    """Feeds a chip's watchdog from a timer until timeout_ms after the last feed().

    It ends the program between then and the chip's own reach later; code that lets no timer in is
    ended by the chip alone. machine: the firmware's module.
    """

    def __init__(self, machine: "Any", timeout_ms: int) -> None:
        self._turns = self._left = timeout_ms // _PERIOD_MS
        self._bite = machine.WDT(timeout=_REACH_MS).feed
        self._timer = machine.Timer(-1, period=_PERIOD_MS, callback=self._tick)

    def feed(self) -> None:
        self._left = self._turns
        self._bite()

    def _tick(self, timer: "Any") -> None:
        if self._left > 0:
            self._left -= 1
            self._bite()
