"""Serve and call the control socket of a running `warden serve`.

A unix socket, 0600 in a 0700 folder: who can open it may read the fleet's keys, so it needs no
password. One JSON object a line; a line and the number of callers are limited all the same.
"""

import contextlib
import json
import os
import queue
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from warden_host import jsontext, values
from warden_host.engine.events import FleetEvent
from warden_host.errors import CODES, HostError

MAX_LINE = 65536
_MAX_CALLERS = 32
_BACKLOG = 1000  # lines that a slow watcher may be behind
_SEND_S = 5.0
_DEPTH = values.MAX_DEPTH * 2  # a line wraps a device's message

Line = dict[str, Any]


class Caller:
    """One open call. Lines are put from any thread; only the caller's own thread writes."""

    def __init__(self) -> None:
        self._lines: queue.Queue[Line | None] = queue.Queue(_BACKLOG)
        self._guard = threading.Lock()
        self._missed = 0
        self.gone = threading.Event()

    def send(self, line: Line) -> None:
        """Queue a line without waiting; a caller that is behind misses and counts lines."""
        with self._guard:
            if self._missed and not self._lines.full():
                self._lines.put_nowait(_missed_line(self._missed))
                self._missed = 0
            try:
                self._lines.put_nowait(line)
            except queue.Full:
                self._missed += 1

    def pop_missed(self) -> Line | None:
        """Return a line that reports missed lines, if any."""
        with self._guard:
            missed, self._missed = self._missed, 0
        return _missed_line(missed) if missed else None

    def finish(self, result: Line | HostError) -> None:
        """Queue the last line of this call, in place of older ones if the queue is full."""
        line = {"error": _error_line(result)} if isinstance(result, HostError) else result
        with self._guard:
            while self._lines.maxsize - self._lines.qsize() < 2:
                with contextlib.suppress(queue.Empty):
                    self._lines.get_nowait()
            self._lines.put_nowait(line)
            self._lines.put_nowait(None)

    def next_line(self, seconds: float) -> Line | None:
        """Return the next line, None at the end. Raises queue.Empty after `seconds`."""
        return self._lines.get(timeout=seconds)


Handler = Callable[[Line, Caller], None]


class ControlServer:
    """Serve the socket while the context lasts.

    handle: starts the work of a request and returns; it may raise HostError.
    """

    def __init__(self, path: Path, handle: Handler) -> None:
        self._path = path
        self._handle = handle
        self._watchers: set[Caller] = set()
        self._callers: set[Caller] = set()
        self._guard = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._accept, name="warden-control", daemon=True)

    def __enter__(self) -> "ControlServer":
        # We hold the broker's lock: no other process uses this socket.
        self._path.unlink(missing_ok=True)
        with short_path(self._path) as short:
            before = os.umask(0o177)
            try:
                self._socket.bind(short)
            finally:
                os.umask(before)
        self._socket.listen(_MAX_CALLERS)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._socket.close()
        with self._guard:
            for caller in self._callers:
                caller.gone.set()
        self._thread.join(5)
        self._path.unlink(missing_ok=True)

    def watch(self, caller: Caller) -> None:
        """Send every event to this caller from now on."""
        with self._guard:
            self._watchers.add(caller)

    def announce(self, fleet_event: FleetEvent) -> None:
        """Send an event to all callers that watch."""
        record = fleet_event.record()
        with self._guard:
            for caller in self._watchers:
                caller.send(record)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            caller = Caller()
            with self._guard:
                full = len(self._callers) >= _MAX_CALLERS
                if not full:
                    self._callers.add(caller)
            if full:
                connection.close()
                continue
            threading.Thread(
                target=self._serve, args=(connection, caller), name="warden-caller", daemon=True
            ).start()

    def _serve(self, connection: socket.socket, caller: Caller) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_SEND_S)
                self._read_request(connection, caller)
                self._write(connection, caller)
        finally:
            caller.gone.set()
            with self._guard:
                self._callers.discard(caller)
                self._watchers.discard(caller)

    def _read_request(self, connection: socket.socket, caller: Caller) -> None:
        try:
            with connection.makefile("rb") as reader:
                line = reader.readline(MAX_LINE + 1)
            self._handle(jsontext.parse_object(line, MAX_LINE, "control-malformed"), caller)
        except HostError as error:
            caller.finish(error)

    def _write(self, connection: socket.socket, caller: Caller) -> None:
        while not caller.gone.is_set():
            try:
                line = caller.next_line(0.2)
            except queue.Empty:
                if _hung_up(connection):
                    return
                line = caller.pop_missed()
                if line is None:
                    continue
            if line is None:
                return
            connection.sendall(jsontext.dump(line).encode() + b"\n")


def stream(path: Path, request: Line, timeout_s: float | None = None) -> Iterator[Line]:
    """Yield the lines of one call. Raises not-serving, timed-out and the error it answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with short_path(path) as short:
                connection.connect(short)
            connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise HostError(
                "not-serving",
                "no `warden serve` runs for this fleet",
                "start `warden serve` in another window",
            ) from None
        with connection.makefile("rb") as reader:
            while True:
                try:
                    data = reader.readline(MAX_LINE * 4)
                except TimeoutError:
                    raise HostError("timed-out", "`warden serve` gives no answer") from None
                except OSError:
                    data = b""
                if not data:
                    return
                line = jsontext.parse_object(data, MAX_LINE * 4, "control-malformed", _DEPTH)
                if "error" in line and isinstance(line["error"], dict):
                    raise _raised(line["error"])
                yield line


def call(path: Path, request: Line, timeout_s: float = 15.0) -> Line:
    """Return the answer to a request. Raises as stream()."""
    for line in stream(path, request, timeout_s):
        return line
    raise HostError("not-serving", "`warden serve` ended in the meantime")


def _missed_line(count: int) -> Line:
    return FleetEvent("notice", text=f"{count} missed: this reader was too slow").record()


def _error_line(error: HostError) -> Line:
    return {"code": error.code, "text": error.text, "hint": error.hint}


def _raised(line: Line) -> HostError:
    code = line.get("code")
    known = code if isinstance(code, str) and code in CODES else "control-malformed"
    return HostError(known, str(line.get("text", "")), str(line.get("hint", "")))


def _hung_up(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give the socket a name of at most 108 bytes, the limit of a unix socket's address."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
