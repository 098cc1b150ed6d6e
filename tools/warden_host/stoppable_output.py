"""Standard output and error whose writes end at a stop.

A write to a full pipe that is not read, or to a terminal after Ctrl-S, waits for ever. A signal
does not end that wait: Python calls the handler and writes again (PEP 475); and where another
thread writes, the main one waits for its turn. So a write waits for the stop as well.
"""

import contextlib
import io
import os
import select
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from warden_host.stopping import Stop

_LAST_S = 2.0  # for a slow reader, from the first write after the stop


class Output(io.RawIOBase):
    """Write to a descriptor; after a stop, drop what its reader does not take in time.

    Without a lock, which a thread that ends with the process would keep: Python gives its
    streams back then, and would wait for it.
    """

    def __init__(self, descriptor: int, stop: Stop) -> None:
        self._descriptor = descriptor
        self._stop = stop
        self._end: float | None = None  # steady seconds: nothing is waited for from then on

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Write all bytes, or drop the rest of them; return how many they were. Raises OSError.

        data: an object with the buffer protocol.
        """
        left = memoryview(data)
        while left and self._wait():
            with contextlib.suppress(BlockingIOError):  # another process filled it again
                # A pipe that is ready takes so many without a wait (pipe(7)).
                left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]
        return len(data)

    def _wait(self) -> bool:
        """Wait until the descriptor takes bytes; False where it takes none after a stop."""
        while not self._stop.requested:
            if self._is_ready(None):
                return True
        now = time.monotonic()
        self._end = now + _LAST_S if self._end is None else self._end
        return self._is_ready(max(0.0, self._end - now))

    def _is_ready(self, timeout_s: float | None) -> bool:
        """Wait; return whether it takes bytes. timeout_s: None to wait for the stop as well."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        if timeout_s is None:
            poll.register(self._stop.fileno(), select.POLLIN)
        found = dict(poll.poll(None if timeout_s is None else timeout_s * 1000))
        if self._stop.fileno() in found:
            self._stop.requested = True
        return self._descriptor in found


@contextlib.contextmanager
def until(stop: Stop) -> Iterator[None]:
    """Let no write to standard output or error wait once the stop is requested.

    It stays so after the context where there was a stop: the process ends then.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_stoppable(stream, stop) for stream in before)
    try:
        yield
    finally:
        if not stop.requested:
            sys.stdout, sys.stderr = before


def _stoppable(stream: TextIO, stop: Stop) -> TextIO:
    """Return a stream whose writes end at a stop; the given one where it has no descriptor."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        output = Output(stream.fileno(), stop)
    except (OSError, ValueError):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        output,  # type: ignore[type-var]  # it needs no more than this of a buffer
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
