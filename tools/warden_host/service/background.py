"""Run something on a thread of its own while a context lasts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
