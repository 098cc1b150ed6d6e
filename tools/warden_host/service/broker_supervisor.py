"""Start a broker again that ended, after a bounded pause, and announce both.

Devices and applications connect again by themselves. The pauses double while it ends at once, so
that a broker that can't start costs neither CPU nor log; one that ran for a time begins anew.
"""

import time
from collections.abc import Callable

from warden_host.broker.backend import Broker
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError, filesystem_error

LEAST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0
STEADY_S = 60.0  # a broker that ran for so long is started without an earlier failure's pause


class BrokerSupervisor:
    """The broker of a running service. Call check() on the main thread, which owns the child."""

    def __init__(
        self,
        broker: Broker,
        announce: Callable[[FleetEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: steady seconds."""
        self._broker = broker
        self._announce = announce
        self._clock = clock
        self._pause_s = LEAST_PAUSE_S
        self._started = clock()
        self._due: float | None = None  # when to start it; None while it runs

    def check(self) -> bool:
        """Start the broker if it ended and its pause is over. Returns whether it runs."""
        if self._broker.alive():
            return True
        now = self._clock()
        if self._due is None:
            if now - self._started >= STEADY_S:
                self._pause_s = LEAST_PAUSE_S
            self._schedule(now, f"the broker ended ({self._broker.exit_words()})")
        elif now >= self._due:
            self._start(now)
        return self._broker.alive()

    def _schedule(self, now: float, why: str) -> None:
        self._due = now + self._pause_s
        self._notice("broker-failed", f"{why}: it is started again in {self._pause_s:g} s")
        self._pause_s = min(self._pause_s * 2, MOST_PAUSE_S)

    def _start(self, now: float) -> None:
        self._broker.stop()
        try:
            self._broker.start()
        except HostError as error:
            self._schedule(now, f"the broker can't be started ({error.code}: {error.text})")
        except OSError as error:
            self._schedule(now, f"the broker can't be started ({filesystem_error(error).text})")
        else:
            self._due = None
            self._started = self._clock()
            self._notice("", "the broker was started again: devices connect anew")

    def _notice(self, code: str, text: str) -> None:
        self._announce(FleetEvent("notice", code=code, text=text))
