"""Count what happens in a served fleet, for its metrics.

Every label comes from a list that is fixed here or in the sources: what a device or a stranger
sends, such as an error code of its own, counts as "other".
"""

import threading
import time
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from warden_host.alarms.rules import LOGIN_REFUSED
from warden_host.engine.events import FleetEvent
from warden_host.errors import CODES, HostError
from warden_host.fleet import errors_page

OTHER = "other"
# Upper bounds of the latency histogram, seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
UNANSWERED_S = 60.0  # after which a command counts as unanswered
_MOST_WAITING = 4096  # commands whose replies are awaited


class Counts(NamedTuple):
    """A copy of what was counted.

    events: by kind. refusals, incidents, notices: by code. commands: by "ok", "refused" and
    "unanswered". buckets: replies within each of BUCKETS, and all of them. seconds: their sum.
    """

    events: dict[str, int]
    refusals: dict[str, int]
    incidents: dict[str, int]
    notices: dict[str, int]
    logins_refused: int
    commands: dict[str, int]
    buckets: tuple[int, ...]
    seconds: float


class Tally:
    """The counters of one run of `warden serve`. clock: steady seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._codes = known_codes()
        self._events: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._incidents: Counter[str] = Counter()
        self._notices: Counter[str] = Counter()
        self._logins_refused = 0
        self._commands: Counter[str] = Counter()
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        # (device, number of a command) → when it was sent.
        self._waiting: OrderedDict[tuple[str, int], float] = OrderedDict()

    def on_device_event(self, fleet_event: FleetEvent) -> None:
        """Count an event of the engine. Called by the one who has the engine."""
        kind, now = fleet_event.kind, self._clock()
        with self._guard:
            self._events[kind] += 1
            if kind == "refused":
                self._refusals[self._label(fleet_event.code)] += 1
            elif kind == "incident":
                self._incidents[self._label(fleet_event.code)] += 1
            elif kind == "command":
                self._waiting[fleet_event.device, fleet_event.id] = now
                self._give_up(now)
            elif kind == "reply":
                self._answered(fleet_event, now)

    def on_notice(self, fleet_event: FleetEvent) -> None:
        """Count a notice about the authority, and a refused log-in. Any thread."""
        if fleet_event.kind != "notice":
            return
        with self._guard:
            if fleet_event.code == LOGIN_REFUSED:
                self._logins_refused += 1
            elif fleet_event.code:
                self._notices[self._label(fleet_event.code)] += 1

    def counts(self) -> Counts:
        """Return a copy."""
        with self._guard:
            self._give_up(self._clock())
            total, buckets = 0, []
            for count in self._buckets:
                total += count
                buckets.append(total)
            return Counts(
                dict(self._events),
                dict(self._refusals),
                dict(self._incidents),
                dict(self._notices),
                self._logins_refused,
                dict(self._commands),
                tuple(buckets),
                self._seconds,
            )

    def _label(self, code: str) -> str:
        return code if code in self._codes else OTHER

    def _answered(self, reply: FleetEvent, now: float) -> None:
        sent = self._waiting.pop((reply.device, reply.id), None)
        if sent is None:
            return
        self._commands["ok" if reply.body.get("ok") is True else "refused"] += 1
        self._buckets[bisect_left(BUCKETS, now - sent)] += 1
        self._seconds += now - sent

    def _give_up(self, now: float) -> None:
        while self._waiting:
            sent = next(iter(self._waiting.values()))
            if now - sent < UNANSWERED_S and len(self._waiting) <= _MOST_WAITING:
                return
            self._waiting.popitem(last=False)
            self._commands["unanswered"] += 1


def known_codes() -> frozenset[str]:
    """Return the error codes of host and device; the host's alone where the page is missing."""
    try:
        return frozenset((*CODES, *errors_page.entries()))
    except HostError:
        return frozenset(CODES)
