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
Tell = Callable[[FleetEvent], None]


def quietly(tell: Callable[[T], None]) -> Callable[[T], None]:
    """The same, but it never raises: its reader may be gone, its encoding too small for a word."""

    def told(fleet_event: T) -> None:
        # SystemExit is what rich makes of a broken pipe.
        with contextlib.suppress(Exception, SystemExit):
            tell(fleet_event)

    return told


@contextlib.contextmanager
def screen_thread(tell: Tell) -> Iterator[Tell]:
    """A tell that never waits: a thread of its own writes, and says how much it could not keep up with."""
    lines: queue.Queue[FleetEvent | None] = queue.Queue(_BACKLOG)
    told, missed = quietly(tell), [0]

    def put(fleet_event: FleetEvent) -> None:
        try:
            lines.put_nowait(fleet_event)
        except queue.Full:
            missed[0] += 1

    def say_missed() -> None:
        count, missed[0] = missed[0], 0
        if count:
            told(FleetEvent("notice", text=f"{count} missed: this screen was too slow"))

    def write() -> None:
        while (fleet_event := lines.get()) is not None:
            told(fleet_event)
            if lines.empty():
                say_missed()
        say_missed()

    thread = threading.Thread(target=write, name="warden-screen", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        with contextlib.suppress(queue.Full):  # a screen that hangs is left to itself
            lines.put(None, timeout=_LAST_S)
            thread.join(_LAST_S)
