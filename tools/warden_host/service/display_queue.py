"""Show events on a screen without waiting: a slow or closed screen only loses lines.

A line takes longer to draw than an event to store, so what a busy fleet sends is shown up to a
rate that a person could follow, and counted above it.
"""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from warden_host.engine.events import FleetEvent
from warden_host.engine.throttle import Throttle

_BACKLOG = 2000
_LAST_S = 2.0
_SUMMARY_S = 1.0
# Kinds that devices and applications cause in any number, and how many of them are shown.
_ORDINARY = ("event", "open", "command", "reply", "refused")
RATE = 50.0  # a second
BURST = 500.0
T = TypeVar("T")
Show = Callable[[FleetEvent], None]


def quietly(show: Callable[[T], None]) -> Callable[[T], None]:
    """Wrap `show` so that it never raises: a pipe may be closed, an encoding too small."""

    def show_quietly(fleet_event: T) -> None:
        # rich turns a broken pipe into SystemExit.
        with contextlib.suppress(Exception, SystemExit):
            show(fleet_event)

    return show_quietly


@contextlib.contextmanager
def screen_thread(show: Show, clock: Callable[[], float] = time.monotonic) -> Iterator[Show]:
    """Give a `show` that never waits: a thread writes, and reports how many events it missed.

    clock: steady seconds.
    """
    lines: queue.Queue[FleetEvent | None] = queue.Queue(_BACKLOG)
    show_quietly = quietly(show)
    throttle, guard = Throttle(RATE, BURST), threading.Lock()
    missed = 0

    def put(fleet_event: FleetEvent) -> None:
        nonlocal missed
        if fleet_event.kind in _ORDINARY:
            with guard:
                if not throttle.admit("", clock()):
                    return
        try:
            lines.put_nowait(fleet_event)
        except queue.Full:
            missed += 1

    def show_missed(now: float) -> None:
        nonlocal missed
        with guard:
            above = sum(count for _, count in throttle.due(now))
        count, missed = missed, 0
        if above:
            text = f"{above} more, not shown: `warden watch` and the database have them"
            show_quietly(FleetEvent("notice", text=text))
        if count:
            show_quietly(FleetEvent("notice", text=f"{count} missed: this screen was too slow"))

    def write() -> None:
        while True:
            with contextlib.suppress(queue.Empty):
                fleet_event = lines.get(timeout=_SUMMARY_S)
                if fleet_event is None:
                    break
                show_quietly(fleet_event)
            if lines.empty():
                show_missed(clock())
        show_missed(math.inf)

    thread = threading.Thread(target=write, name="warden-screen", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        with contextlib.suppress(queue.Full):  # don't wait for a screen that hangs
            lines.put(None, timeout=_LAST_S)
            thread.join(_LAST_S)
