"""Between the engine and a screen: a screen that is slow or gone costs its own lines, nothing else."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from warden_host.engine.events import FleetEvent

_BACKLOG = 2000
_LAST_S = 2.0
T = TypeVar("T")
Show = Callable[[FleetEvent], None]


def quietly(show: Callable[[T], None]) -> Callable[[T], None]:
    """The same, but it never raises: its reader may be gone, its encoding too small for a word."""

    def show_quietly(fleet_event: T) -> None:
        # SystemExit is what rich makes of a broken pipe.
        with contextlib.suppress(Exception, SystemExit):
            show(fleet_event)

    return show_quietly


@contextlib.contextmanager
def screen_thread(show: Show) -> Iterator[Show]:
    """A tell that never waits: a thread of its own writes, and says how much it could not keep up with."""
    lines: queue.Queue[FleetEvent | None] = queue.Queue(_BACKLOG)
    show_quietly, missed = quietly(show), [0]

    def put(fleet_event: FleetEvent) -> None:
        try:
            lines.put_nowait(fleet_event)
        except queue.Full:
            missed[0] += 1

    def show_missed() -> None:
        count, missed[0] = missed[0], 0
        if count:
            show_quietly(FleetEvent("notice", text=f"{count} missed: this screen was too slow"))

    def write() -> None:
        while (fleet_event := lines.get()) is not None:
            show_quietly(fleet_event)
            if lines.empty():
                show_missed()
        show_missed()

    thread = threading.Thread(target=write, name="warden-screen", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        with contextlib.suppress(queue.Full):  # a screen that hangs is left to itself
            lines.put(None, timeout=_LAST_S)
            thread.join(_LAST_S)
