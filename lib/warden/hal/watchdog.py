"""The chip's watchdog: WATCHDOG = milliseconds. The board starts anew when it was not fed for so
long.

An application or an update on trial that hangs is ended, and a trial that hangs has counted.

The agent's event loop feeds it, so anything that blocks the loop for longer ends in a new start,
the application's own code too. Once started it can't be stopped (machine.WDT). Where the chip's
own does not reach that far, watchdog_timer.py feeds it meanwhile.
"""

import asyncio

import machine
from micropython import const

from ..errors import UsageError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

# A hand-shake's arithmetic and a signature take up to three seconds in one piece on the slowest
# chip.
_LEAST_MS = const(5000)
_FEEDS = const(10)  # in its time-out: an oftener one wakes an idle chip, a rarer one bites early

_dogs: "list[Callable[[], None]]" = []


def start(timeout_ms: int) -> "Callable[[], None]":
    """Start the watchdog, once, and return what feeds it.

    Raises UsageError no-board: too short a time, or this firmware has none.
    """
    if not _dogs:
        if timeout_ms < _LEAST_MS:
            raise UsageError("no-board", "board.py's WATCHDOG is below 5,000 ms")
        if not hasattr(machine, "WDT"):
            raise UsageError("no-board", "board.py names a WATCHDOG, and this firmware has none")
        try:
            dog: "Any" = machine.WDT(timeout=timeout_ms)
        except ValueError:  # beyond the chip's reach
            from .watchdog_timer import Extended

            dog = Extended(machine, timeout_ms)
        _dogs.append(dog.feed)
    return _dogs[0]


def keep(timeout_ms: int) -> None:
    """Let the event loop feed it from now on, ten times in timeout_ms."""
    asyncio.create_task(_keep(start(timeout_ms), timeout_ms // _FEEDS))


async def _keep(feed: "Callable[[], None]", pause_ms: int) -> None:
    while True:
        feed()
        await asyncio.sleep_ms(pause_ms)
