"""Run something on a thread of its own while a context lasts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from warden_host.engine.events import FleetEvent
from warden_host.round_guard import RoundGuard, Tell


@contextmanager
def background(name: str, run: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `run` on a thread of that name; the event that it gets is set when it has to end."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def notices(announce: Callable[[FleetEvent], None]) -> Tell:
    """Return what announces an error's code and its sentence as a notice."""
    return lambda code, text: announce(FleetEvent("notice", code=code, text=text))


def round_guard(failed: str, announce: Callable[[FleetEvent], None]) -> RoundGuard:
    """Return a guard that announces what it catches. failed: as for RoundGuard."""
    return RoundGuard(failed, notices(announce))
