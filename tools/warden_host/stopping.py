"""A stop by SIGINT or SIGTERM that raises no exception.

A handler that raises can do so at any bytecode: also where the main thread has just taken the
lock within a threading.Event, Condition or queue.Queue, which are written in Python. Nothing
releases that lock then, and every thread that needs it waits for ever (CPython issue 29988). A
handler that sets a threading.Event waits for the lock that its own thread may hold. And a handler
runs on the main thread alone: where the kernel gives the signal to another thread, or a moment
before the main thread begins to wait, no handler runs until that wait ends.

So Python itself writes each signal to a pipe (signal.set_wakeup_fd), on whichever thread it came;
the handler only counts. A thread that waits for something else watches the pipe as well, and ends
where it holds no lock.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

_READ = 65536


class Stop:
    """Tell whether this program is to end. A context, which closes its pipe.

    signals: how often SIGINT or SIGTERM came.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signals = 0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *_: object) -> None:
        self.requested = True
        os.close(self._reader)
        os.close(self._writer)

    def request(self) -> None:
        """Ask for the end, from any thread or signal handler."""
        if not self.requested:
            self.requested = True
            os.write(self._writer, b"\0")  # stays there unread: each wait from now on returns

    def fileno(self) -> int:
        """Return the descriptor that is readable from the request on."""
        return self._reader

    def write_fileno(self) -> int:
        """Return the descriptor at which a byte is a request."""
        return self._writer

    def wait(self, timeout_s: float) -> bool:
        """Wait at most the seconds; return whether the end was asked for."""
        if not self.requested and readable([self._reader], timeout_s):
            self.requested = True
        return self.requested


class LineReader:
    """Read lines of a descriptor until its end, or until a stop.

    timeout_s: of each read, None to wait for ever.
    """

    def __init__(
        self, descriptor: int, stop: Stop | None = None, timeout_s: float | None = None
    ) -> None:
        self._descriptor = descriptor
        self._stop = stop
        self._timeout_s = timeout_s
        self._data = bytearray()

    def readline(self, limit: int) -> bytes:
        """Return the next line with its end, or `limit` bytes of a longer one.

        Returns: b"" after the last line, and from a stop on.
        Raises: TimeoutError, OSError.
        """
        searched = 0
        while not (self._stop is not None and self._stop.requested):
            end = self._data.find(b"\n", searched, limit) + 1
            if end == 0 and len(self._data) >= limit:
                end = limit
            if end:
                return self._cut(end)
            searched = len(self._data)
            data = self._read()
            if data is None:
                break
            if not data:
                return self._cut(searched)
            self._data += data
        return b""

    def _read(self) -> bytes | None:
        """Return what came, b"" at the end, None on a stop."""
        watched = [self._descriptor]
        if self._stop is not None:
            watched.append(self._stop.fileno())
        ready = readable(watched, self._timeout_s)
        if not ready:
            raise TimeoutError
        if self._stop is not None and self._stop.fileno() in ready:
            self._stop.requested = True
            return None
        return os.read(self._descriptor, _READ)

    def _cut(self, end: int) -> bytes:
        line = bytes(self._data[:end])
        del self._data[:end]
        return line


def readable(descriptors: list[int], timeout_s: float | None) -> set[int]:
    """Return the descriptors that can be read, have ended or are broken; none after the time.

    By poll(): select() takes no descriptor above 1023.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    found = poll.poll(None if timeout_s is None else timeout_s * 1000)
    return {descriptor for descriptor, _ in found}


@contextlib.contextmanager
def on_signals(hard_at: int = 2) -> Iterator[Stop]:
    """Yield a stop that SIGINT and SIGTERM request while the context lasts. Main thread only.

    hard_at: the signal of this number ends the process at once where it is a SIGINT: a person
    who presses Ctrl-C again.
    """
    with Stop() as stop:

        def note(number: int, _: FrameType | None) -> None:
            stop.signals += 1
            if number == signal.SIGINT and stop.signals >= hard_at:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            stop.request()

        wakeup = signal.set_wakeup_fd(stop.write_fileno(), warn_on_full_buffer=False)
        before = {
            number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield stop
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


def call(function: Callable[[], object], stop: Stop) -> bool:
    """Call a function that waits for something else; return False where a stop came first.

    function: runs on a thread of its own, which a stop leaves behind: it ends with the process.
    Raises: what the function raises.
    """
    failed: list[BaseException] = []
    reader, writer = os.pipe()

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 (raised again below)
            failed.append(error)
        finally:
            os.close(writer)  # readable from here on

    threading.Thread(target=run, daemon=True).start()
    try:
        if stop.fileno() in readable([reader, stop.fileno()], None):
            stop.requested = True
            return False
    finally:
        os.close(reader)
    if failed:
        raise failed[0]
    return True


def run_async(main: Coroutine[Any, Any, None], stop: Stop) -> None:
    """Run a coroutine as asyncio.run(), and cancel it on a stop."""
    import asyncio  # here, because commands that are short need none

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel() -> None:
            stop.requested = True
            loop.remove_reader(stop)  # once: what ends in order is not cancelled again
            if task is not None:
                task.cancel()

        loop.add_reader(stop, cancel)
        try:
            await main
        finally:
            loop.remove_reader(stop)

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        if not stop.requested:
            raise
