"""The chip's own clock, in Unix seconds.

Boards count from 2000 or from 1970, by port: the firmware says which.
"""

import time

_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0


class ChipClock:
    def now(self) -> int:
        return int(time.time()) + _EPOCH

    def set(self, unix_time: int) -> bool:
        """Set the chip's clock; return whether it has the new time afterwards."""
        import machine

        try:
            year, month, day, hour, minute, second, weekday = time.gmtime(unix_time - _EPOCH)[:7]
            machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))
        except (OverflowError, ValueError, OSError):
            return False  # a time that this firmware can't hold: a peer may name any
        return -2 <= self.now() - unix_time <= 2
