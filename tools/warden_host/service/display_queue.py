"""Show events on a screen without waiting: a slow or closed screen only loses lines."""

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
    """Wrap `show` so that it never raises: a pipe may be closed, an encoding too small."""

    def show_quietly(fleet_event: T) -> None:
        # rich turns a broken pipe into SystemExit.
        with contextlib.suppress(Exception, SystemExit):
            show(fleet_event)

    return show_quietly


@contextlib.contextmanager
def screen_thread(show: Show) -> Iterator[Show]:
    """Give a `show` that never waits: a thread writes, and reports how many events it missed."""
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
        with contextlib.suppress(queue.Full):  # don't wait for a screen that hangs
            lines.put(None, timeout=_LAST_S)
            thread.join(_LAST_S)
