"""Decide whether this host's clock may be sent to devices.

A device keeps the latest time from its authority for ever: one moment of a wrong clock at the host
would move every device's mark. So a time is sealed only while it follows from an earlier
one, the mark, which fleet.db keeps:

- Within one start of the machine the wall clock must have moved as far as the steady one did, also
  across restarts of `warden serve`.
- After the machine was off only bounds are known: at most BACK_S before the mark and AWAY_S after
  it, or UNSET_S where the kernel says that no time server has set the clock since. A clock that
  starts wrong within these bounds is not noticed.
"""

import ctypes
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from warden_client.protocol.session import Instant

from warden_host.errors import HostError
from warden_host.store.clock import Mark
from warden_host.store.store import Store

STEP_S = 60  # what NTP may correct at once
DRIFT = 0.001  # how far the wall clock may run from the steady one: the kernel slews by half of it
AWAY_S = 90 * 86400
UNSET_S = 86400
BACK_S = 3600  # a battery clock that is not set; devices don't believe a time that goes back
_RENEW_S = 3600
_TIME_ERROR = 5  # of adjtimex(2): the clock is not synchronized
_TIMEX = 512  # bytes, more than a struct timex has; all zero asks and changes nothing


class Reading(NamedTuple):
    """The clocks at one moment."""

    mark: Mark
    monotonic: float


def _boot_id() -> str:
    """Return what names this start of the machine; elsewhere than on Linux, this process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return secrets.token_hex(16)


_BOOT = _boot_id()
# BOOTTIME goes on while the machine sleeps.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def read() -> Reading:
    return Reading(Mark(time.time(), time.clock_gettime(_STEADY), _BOOT), time.monotonic())


def doubt(mark: Mark, now: Mark) -> str:
    """Return why `now` does not follow from `mark`, or "" where it does."""
    if now.boot == mark.boot and now.steady >= mark.steady:
        passed = now.steady - mark.steady
        off = now.unix - mark.unix - passed
        if abs(off) <= STEP_S + DRIFT * passed:
            return ""
        way = "forward" if off > 0 else "back"
        return f"this host's clock jumped {_span(abs(off))} {way}"
    ahead = now.unix - mark.unix
    if ahead < -BACK_S:
        return f"this host's clock is {_span(-ahead)} before the time last served"
    if ahead > AWAY_S:
        return f"this host's clock is {_span(ahead)} after the time last served"
    return ""


def is_unset() -> bool:
    """Return whether the kernel says that no time server sets its clock; False where unknown."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX))
    except (AttributeError, OSError):
        return False
    return bool(state == _TIME_ERROR)


def check_start(
    store: Store,
    accept: bool = False,
    clocks: Callable[[], Reading] = read,
    unset: Callable[[], bool] = is_unset,
) -> None:
    """Keep the present time as the mark. Raises clock-jumped, unless `accept` is set.

    unset: whether no time server sets this machine's clock.
    """
    now = clocks().mark
    if not accept:
        check(store, lambda: Reading(now, 0.0), unset)
    store.set_clock_mark(now)


def check(
    store: Store,
    clocks: Callable[[], Reading] = read,
    unset: Callable[[], bool] = is_unset,
) -> None:
    """Raise clock-jumped where the present time does not follow from the mark.

    unset: as check_start().
    """
    now, mark = clocks().mark, store.clock_mark()
    if mark is None:
        return
    why, ahead = doubt(mark, now), now.unix - mark.unix
    if not why and now.boot != mark.boot and ahead > UNSET_S and unset():
        why = (
            f"this host's clock is {_span(ahead)} after the time last served, and no time "
            "server has set it"
        )
    if why:
        raise HostError("clock-jumped", why)


class ClockGuard:
    """The clock of a running authority; now() returns whether the time may be sealed."""

    def __init__(self, store: Store, clocks: Callable[[], Reading] = read) -> None:
        self._store = store
        self._clocks = clocks
        self._mark = store.clock_mark() or clocks().mark
        self._doubted = False

    def now(self) -> Instant:
        reading = self._clocks()
        good = not doubt(self._mark, reading.mark)
        return Instant(int(reading.mark.unix), reading.monotonic, good)

    def tick(self) -> str:
        """Renew the mark once an hour. Returns a notice for the operator, or ""."""
        now = self._clocks().mark
        why = doubt(self._mark, now)
        if not why and now.steady - self._mark.steady >= _RENEW_S:
            self._keep(now)
        if bool(why) == self._doubted:
            return ""
        self._doubted = bool(why)
        if not why:
            return "this host's clock agrees again: welcomes are sealed"
        hint = HostError("clock-jumped").hint
        return f"{why}: no welcome is sealed, so no session begins; {hint}"

    def close(self) -> None:
        """Keep the present time as the mark if it is good."""
        now = self._clocks().mark
        if not doubt(self._mark, now):
            self._keep(now)

    def _keep(self, now: Mark) -> None:
        self._mark = now
        self._store.set_clock_mark(now)


class WorkClock:
    """Read a clock once for each piece of work, which asks for the time many times."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        self._now = now
        self._read: Instant | None = None

    def renew(self) -> None:
        """Read the clock again when it is asked next: other work begins."""
        self._read = None

    def __call__(self) -> Instant:
        if self._read is None:
            self._read = self._now()
        return self._read


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} seconds"
