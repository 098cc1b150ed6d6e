"""Keep a time that only moves forward, on boards that start in 2021 (rp2) or 2000 (ESP32).

The clock is never below two marks: the build's date, and the highest time that a welcome of
the authority proved, sealed in the vault. The TLS stack checks certificate dates against the
chip's clock, so it must be right before the hand-shake. For a server certificate that begins after
both marks, net/link.py sets a tentative time, which does not count as proven.

The mark is for ever, so one moment of a wrong clock at the authority must not move it far:
net/clock_steps.py. An order that a release key signed sets it back: agent/clock_order.py.
"""

import time

from micropython import const

from .. import unload
from ..errors import PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ..vault import Vault

    class Rtc(Protocol):
        def now(self) -> int: ...
        def set(self, unix_time: int) -> bool: ...


# Least step of the mark: a link that comes and goes must not wear the flash.
_MARK_STEP_S = const(6 * 3600)
# A smaller difference is not corrected.
_SLACK_S = const(2)
# How far a welcome may be ahead of the time that an earlier one proved in this boot.
_AHEAD_S = const(2 * 3600)
# How far it may be ahead of the mark for the mark to follow at once: a device can't know for how
# long it was off.
_AWAY_S = const(86400)


class Uptime:
    """Milliseconds since this object was made.

    `ticks_ms` alone wraps after 12 days on boards: call now_ms() at least every six days.
    """

    def __init__(self) -> None:
        self._last = time.ticks_ms()
        self._total = 0

    def now_ms(self) -> int:
        """Return the milliseconds since this object was made."""
        now = time.ticks_ms()
        self._total += time.ticks_diff(now, self._last)
        self._last = now
        return self._total


class Clock:
    """The chip's clock between its two marks.

    rtc: the clock chip, now() and set() in unix seconds. vault: open; its counter `time` less
    `shift` is the proven mark. floor: the build's date, unix seconds.
    """

    def __init__(self, rtc: "Rtc", vault: "Vault", floor: int, shift: int = 0) -> None:
        self.rtc = rtc
        self._vault = vault
        self.floor = floor
        self.shift = shift
        self._ahead = 0  # seconds by which the tentative time is ahead of the clock's own
        self._mark = 0  # unix seconds to commit
        # The time that a welcome of the authority proved in this boot, less the uptime.
        self._zero: "int | None" = None
        self._steps: "Any" = None  # net/clock_steps.py, where a time is far ahead of the mark
        # The clock did not run all the time: it was below the marks, or a certificate shows it.
        self.gap = False

    def least(self) -> int:
        """Return the higher mark, unix seconds: it is at least this late."""
        return max(self.floor, self._vault.counter("time") - self.shift, self._mark)

    def now(self) -> int:
        """Return the chip's time, unix seconds."""
        return self.rtc.now()

    def start(self) -> None:
        """Set a clock that is below the marks to the higher one."""
        if self.rtc.now() < self.least():
            self.gap = True
            self.rtc.set(self.least())

    # -- tentative time: for one connection, until the authority's welcome proves one ----------

    def try_at(self, unix_time: int) -> bool:
        """Set the clock to an unproven time for one connection, and return whether it is set.

        unix_time: not below the marks. It is not set where the clock can't be, or where a time was
        proven in this boot. Call undo() after the connection: who shows a certificate chooses this
        time, and a finished hand-shake proves nothing about it.
        """
        before = self.rtc.now()
        # A forged certificate may say the year 9999.
        if self._zero is not None or unix_time == before:
            return False
        if not self.least() <= unix_time < 1 << 32:
            return False
        self.gap = True
        if not self.rtc.set(unix_time):
            return False
        self._ahead = unix_time - before
        return True

    def undo(self) -> None:
        """Set the clock back to the time without try_at()."""
        if self._ahead:
            self.rtc.set(self.rtc.now() - self._ahead)
            self._ahead = 0

    # -- proven time --------------------------------------------------------------------------

    def proven(self, now_ms: int) -> "int | None":
        """Return the unix time by a welcome of this boot and the uptime, or None without one.

        now_ms: of Uptime. No change of the chip's clock moves it.
        """
        return None if self._zero is None else self._zero + now_ms // 1000

    def prove(self, unix_time: int, dates: "Any", now_ms: int) -> bool:
        """Set the clock to the time of the authority's welcome, and move the mark: keep_mark()
        commits it. Return False for a time that is too far ahead of one that was proven before.

        unix_time: seconds; one below the marks changes nothing. dates: not_before and not_after of
        the server's certificate (net/verifier.py). now_ms: of Uptime. Raises PeerError
        certificate-dates where the time is outside of the dates: a wrong clock accepted the
        certificate, and is set to the marks.
        """
        if not dates.not_before <= unix_time <= dates.not_after:
            self.rtc.set(self.least())
            self._ahead = 0
            raise PeerError("certificate-dates")
        least = self.least()
        if unix_time < least:
            return True
        expected = self.proven(now_ms)
        if expected is not None and unix_time - expected > _AHEAD_S:
            return False
        self._ahead = 0
        self._zero = unix_time - now_ms // 1000
        if not -_SLACK_S <= unix_time - self.rtc.now() <= _SLACK_S:
            self.rtc.set(unix_time)
        mark = self._vault.counter("time")
        # The first time of a new device has nothing to be compared with: its owner is beside it.
        if mark and unix_time > least + _AWAY_S:
            from .clock_steps import Steps

            self._steps = Steps(self._vault, unix_time, least)
            if not self._steps.confirmed:
                return True
        # What no counter can hold is no mark.
        if mark + _MARK_STEP_S <= unix_time + self.shift < 1 << 32:
            self._mark = unix_time
        return True

    def keep_mark(self) -> None:
        """Commit a mark that prove() moved.

        Called by a task of its own: below the message that proved the time, a commit would be too
        deep in a C stack of 8 KB.
        """
        mark, self._mark = self._mark, 0
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.keep(mark and mark + self.shift)
            unload("warden.net.clock_steps")
        elif mark:
            self._vault.advance("time", mark + self.shift)


def earlier(one: "int | None", other: "int | None") -> "int | None":
    """Return the earlier of two times, of which either may be None."""
    return other if one is None or (other is not None and other < one) else one
