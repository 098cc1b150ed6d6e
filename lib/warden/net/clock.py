"""Keep a time that only moves forward, on boards that start in 2021 (rp2) or 2000 (ESP32).

The clock is never below two marks: the build's date, and the highest time that a welcome of
the authority proved, sealed in the vault. The TLS stack checks certificate dates against the
chip's clock, so it must be right before the hand-shake. For a server certificate that begins after
both marks, net/link.py sets a tentative time, which does not count as proven.
"""

import time

from micropython import const

from ..errors import PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Protocol

    from ..vault import Vault

    class Rtc(Protocol):
        def now(self) -> int: ...
        def set(self, unix_time: int) -> bool: ...


# Least step of the mark: a link that comes and goes must not wear the flash.
_MARK_STEP_S = const(6 * 3600)
# A smaller difference is not corrected.
_SLACK_S = const(2)


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

    rtc: the clock chip, now() and set() in unix seconds. vault: open; its counter `time` is the
    proven mark. floor: the build's date, unix seconds.
    """

    def __init__(self, rtc: "Rtc", vault: "Vault", floor: int) -> None:
        self.rtc = rtc
        self._vault = vault
        self.floor = floor
        self._ahead = 0  # seconds by which the tentative time is ahead of the clock's own
        self._mark = 0  # unix seconds to commit
        self._proven = False  # a welcome of the authority proved a time in this boot
        # The clock did not run all the time: it was below the marks, or a certificate shows it.
        self.gap = False

    def least(self) -> int:
        """Return the higher mark, unix seconds: it is at least this late."""
        return max(self.floor, self._vault.counter("time"), self._mark)

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
        if self._proven or unix_time == before or not self.least() <= unix_time < 1 << 32:
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

    def prove(self, unix_time: int, not_before: int, not_after: int) -> None:
        """Set the clock to the time of the authority's welcome, and move the mark: keep_mark()
        commits it.

        unix_time: seconds; one below the marks changes nothing. not_before, not_after: the dates
        of the server's certificate. Raises PeerError certificate-dates where the time is outside
        of them: a wrong clock accepted the certificate, and is set to the marks.
        """
        if not not_before <= unix_time <= not_after:
            self.rtc.set(self.least())
            self._ahead = 0
            raise PeerError("certificate-dates")
        if unix_time < self.least():
            return
        self._ahead = 0
        self._proven = True
        if not -_SLACK_S <= unix_time - self.rtc.now() <= _SLACK_S:
            self.rtc.set(unix_time)
        if unix_time >= self._vault.counter("time") + _MARK_STEP_S:
            self._mark = unix_time

    def keep_mark(self) -> None:
        """Commit a mark that prove() moved.

        Called by a task of its own: below the message that proved the time, a commit would be too
        deep in a C stack of 8 KB.
        """
        if self._mark:
            mark, self._mark = self._mark, 0
            self._vault.advance("time", mark)
