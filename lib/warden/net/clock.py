"""Time that only moves forward, on boards that wake up in 2021 (rp2) or 2000 (ESP32).

Two marks hold it up: the build floor, and the highest time that a welcome of the authority ever proved, sealed in the vault. Certificate
dates are checked by the TLS stack against the chip's clock, so the clock must stand right before the hand-shake; a server certificate
that is younger than both marks is met with a tentative time (see net/link.py), which does not count as proven.
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


# The mark moves in steps of at least this, so that a link which flaps does not wear the flash.
_MARK_STEP_S = const(6 * 3600)
# A clock that is off by no more is left alone.
_SLACK_S = const(2)


class Uptime:
    """Milliseconds since this object was made, without end: `ticks_ms` alone wraps after 12 days on boards. To be asked at least every
    six days."""

    def __init__(self) -> None:
        self._last = time.ticks_ms()
        self._total = 0

    def now_ms(self) -> int:
        now = time.ticks_ms()
        self._total += time.ticks_diff(now, self._last)
        self._last = now
        return self._total


class Clock:
    """rtc: now() and set() in unix seconds. floor: unix seconds, the build date. The vault keeps the counter `time`."""

    def __init__(self, rtc: "Rtc", vault: "Vault", floor: int) -> None:
        self.rtc = rtc
        self._vault = vault
        self.floor = floor
        self._ahead = 0  # by so much a tentative time is ahead, or behind
        self._proven = False  # a welcome of the authority set the clock in this boot
        self.gap = False  # it stood below the marks, or a certificate contradicted it: it did not count all the time, whatever keeps it

    def least(self) -> int:
        """The time that it certainly is by now, unix seconds."""
        return max(self.floor, self._vault.counter("time"))

    def now(self) -> int:
        return self.rtc.now()

    def start(self) -> None:
        """Lift the clock to the marks if it stands below them."""
        if self.rtc.now() < self.least():
            self.gap = True
            self.rtc.set(self.least())

    # -- tentative time: for one connection, until the authority's welcome says better ---------

    def try_at(self, unix_time: int) -> bool:
        """Set the clock to a time that nobody proved, for one connection; False when this clock can't be set, or time was proven in
        this boot. Never below the marks.

        It must not outlive the connection: whoever can show a certificate chose this time, and a hand-shake that the real server
        finished, with somebody in between who cuts the line after it, proves nothing about it. So undo() follows every connection.
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
        """Go back to what the clock would say without try_at()."""
        if self._ahead:
            self.rtc.set(self.rtc.now() - self._ahead)
            self._ahead = 0

    # -- proven time --------------------------------------------------------------------------

    def prove(self, unix_time: int, not_before: int, not_after: int) -> None:
        """A welcome of the authority says what time it is, behind a certificate with these dates.

        PeerError certificate-dates when the two contradict each other: then the certificate was let in by a wrong clock, and a tentative
        time that came from it is undone. A time below the marks is not believed and moves nothing.
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
            self._vault.advance("time", unix_time)
