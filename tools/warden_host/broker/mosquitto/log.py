"""mosquitto's log: read from a pipe and kept in a BoundedLog.

A stranger who connects makes mosquitto write a line or two each time, so mosquitto itself must not
own the file. The writing end of the pipe does not block: where we are too slow, mosquitto loses
lines and goes on serving.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from warden_host.bounded_log import BoundedLog

_CHUNK = 65536
_TAIL = 4096


class BrokerLog:
    """Copy what a child writes to its standard error into a BoundedLog, on a thread of its own.

    Pass `writer` to the child as stdout and stderr, then call started().
    """

    def __init__(
        self, path: Path, limit: int, on_lines: Callable[[list[str]], None] | None = None
    ) -> None:
        """on_lines: called with whole lines, on the log's thread; it must not raise."""
        self._log = BoundedLog(path, limit)
        self._on_lines = on_lines
        self._begun = b""  # of a line whose end did not come yet
        self._reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        self.tail = b""  # what came last
        self._thread = threading.Thread(target=self._copy, name="warden-broker-log", daemon=True)

    def started(self) -> None:
        """Close our copy of the writing end, so that the log ends with the child."""
        self._close_writer()
        self._thread.start()

    def close(self) -> None:
        """Wait until the child's last line is in the file; call it after the child ended."""
        self._close_writer()
        if self._thread.ident is None:
            os.close(self._reader)
            self._log.close()
        else:
            self._thread.join(5)

    def _close_writer(self) -> None:
        writer, self.writer = self.writer, -1
        if writer >= 0:
            os.close(writer)

    def _copy(self) -> None:
        with contextlib.closing(self._log), open(self._reader, "rb", buffering=0) as pipe:
            while data := pipe.read(_CHUNK):
                self.tail = (self.tail + data)[-_TAIL:]
                # A full disk costs lines of the log: the pipe is read on.
                with contextlib.suppress(OSError, ValueError):
                    self._log.write(data)
                if self._on_lines is not None:
                    self._on_lines(self._whole_lines(data))

    def _whole_lines(self, data: bytes) -> list[str]:
        *lines, rest = (self._begun + data).split(b"\n")
        self._begun = rest[:_TAIL]
        return [line.decode(errors="replace") for line in lines]
