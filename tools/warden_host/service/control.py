"""Serve the control sockets of `warden serve`; control_client.py calls them.

The owner's is a unix socket, 0600 in a 0700 folder: who can open it may read the fleet's keys, so
it needs no password. The operators' (service/operators.py) lies where other users reach it. The
kernel tells the caller's Unix user. One JSON object a line; a line, the time to send it, and the
number of callers, also of one user, are limited.
"""

import contextlib
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from warden_host import jsontext
from warden_host.control_client import MAX_LINE, Line, short_path
from warden_host.errors import HostError, filesystem_error, internal_error
from warden_host.round_guard import RoundGuard, Tell
from warden_host.service.event_feed import EventFeed, Reader, missed
from warden_host.stopping import readable

__all__ = ("Caller", "ControlServer", "Handler", "Line")

MAX_CALLERS = 32
_BACKLOG = 1000  # lines that a slow watcher may be behind
_SEND_S = 5.0
_READ_S = 5.0  # for the whole request, however it trickles in
_PAUSE_S = 0.1
_POLL_S = 0.2  # between two looks whether the caller is still there


class Caller:
    """One open call. Lines are put from any thread; only the caller's own thread writes.

    uid: of the calling process's user. who: the operator whose session in a browser calls, as the
    audit log has it; "" for others. ends_with: says whether what allowed the call has ended.
    on_finish: called once with the outcome, "ok" or an error's
    code, before the last line is sent at the latest.
    """

    def __init__(self, uid: int = -1) -> None:
        self.uid = uid
        self.who = ""
        self.ends_with: Callable[[], bool] | None = None
        self.on_finish: Callable[[str], None] | None = None
        self.reader: Reader | None = None  # of a caller that watches
        self._lines: queue.Queue[Line | None] = queue.Queue(_BACKLOG)
        self._guard = threading.Lock()
        self._missed = 0
        self.gone = threading.Event()

    def send(self, line: Line) -> None:
        """Queue a line without waiting; a caller that is behind misses and counts lines."""
        with self._guard:
            if self._missed and not self._lines.full():
                self._lines.put_nowait(missed(self._missed).record())
                self._missed = 0
            try:
                self._lines.put_nowait(line)
            except queue.Full:
                self._missed += 1

    def pop_missed(self) -> Line | None:
        """Return a line that reports missed lines, if any."""
        with self._guard:
            count, self._missed = self._missed, 0
        return missed(count).record() if count else None

    def note(self, outcome: str) -> None:
        """Pass the outcome on, once: before finish() where the call outlasts the action."""
        noted, self.on_finish = self.on_finish, None
        if noted is not None:
            with contextlib.suppress(HostError):  # the caller gets its answer all the same
                noted(outcome)

    def finish(self, result: Line | HostError) -> None:
        """Queue the last line of this call, in place of older ones if the queue is full."""
        line = {"error": _error_line(result)} if isinstance(result, HostError) else result
        self.note(_outcome(result))
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
    mode: of the socket. Others than its owner need write permission to call it.
    watchers: the feed of another socket, to share it.
    most_of_a_user: open calls of one Unix user, so that no user takes all of them.
    most: open calls of all users.
    tell: called for an unforeseen exception.
    """

    def __init__(
        self,
        path: Path,
        handle: Handler,
        mode: int = 0o600,
        watchers: EventFeed | None = None,
        most_of_a_user: int = MAX_CALLERS,
        most: int = MAX_CALLERS,
        tell: Tell = lambda *_: None,
    ) -> None:
        self._mode = mode
        self.watchers = EventFeed() if watchers is None else watchers
        self._path = path
        self._handle = handle
        self._most_of_a_user = most_of_a_user
        self._most = most
        self._rounds = RoundGuard("a call was not taken", tell)
        self._closing = False
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
            os.chmod(short, self._mode)
        self._socket.listen(MAX_CALLERS)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._socket.close()
        with self._guard:
            for caller in self._callers:
                caller.gone.set()
        self._thread.join(5)
        self._path.unlink(missing_ok=True)

    def drop(self, which: Callable[[Caller], bool]) -> None:
        """End the open calls that `which` chooses."""
        with self._guard:
            for caller in filter(which, self._callers):
                caller.gone.set()

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed; or no file is left to open, or the caller is gone
                if not self._closing:
                    time.sleep(_PAUSE_S)
                continue
            if not self._rounds.attempt(self._take, connection):
                time.sleep(_PAUSE_S)

    def _take(self, connection: socket.socket) -> None:
        """Serve a call on a thread of its own, or hang up where there are too many."""
        with contextlib.ExitStack() as refused:
            refused.callback(connection.close)
            caller = Caller(_uid_of(connection))
            if not self._admit(caller):
                return
            refused.callback(self._discard, caller)
            threading.Thread(
                target=self._serve, args=(connection, caller), name="warden-caller", daemon=True
            ).start()
            refused.pop_all()

    def _discard(self, caller: Caller) -> None:
        with self._guard:
            self._callers.discard(caller)

    def _admit(self, caller: Caller) -> bool:
        with self._guard:
            of_the_user = sum(one.uid == caller.uid for one in self._callers)
            free = len(self._callers) < self._most and of_the_user < self._most_of_a_user
            if free:
                self._callers.add(caller)
        return free

    def _serve(self, connection: socket.socket, caller: Caller) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_SEND_S)
                self._read_request(connection, caller)
                self._write(connection, caller)
        finally:
            caller.gone.set()
            self._discard(caller)
            self.watchers.discard(caller)

    def _read_request(self, connection: socket.socket, caller: Caller) -> None:
        try:
            line = _read_line(connection, time.monotonic() + _READ_S)
            self._start(jsontext.parse_object(line, MAX_LINE, "control-malformed"), caller)
        except HostError as error:
            caller.finish(error)

    def _start(self, request: Line, caller: Caller) -> None:
        """Let a bug end in an answer for the caller and an outcome for the audit log."""
        try:
            self._handle(request, caller)
        except HostError:
            raise
        except OSError as error:
            raise filesystem_error(error) from None
        except Exception as error:  # noqa: BLE001
            raise internal_error(error) from None

    def _write(self, connection: socket.socket, caller: Caller) -> None:
        while not caller.gone.is_set():
            reader = caller.reader
            try:
                line = caller.next_line(0.0 if reader else _POLL_S)
            except queue.Empty:
                if _hung_up(connection):
                    return
                line = caller.pop_missed()
                if line is None:
                    data = reader.read(_POLL_S) if reader else b""
                    if not caller.gone.is_set():  # meanwhile what allowed the call may have ended
                        connection.sendall(data)
                    continue
            if line is None or caller.gone.is_set():
                return
            connection.sendall(jsontext.dump(line).encode() + b"\n")


def check_path(path: Path) -> None:
    """Verify that a socket can be made there. Raises bad-argument."""
    if not path.parent.is_dir():
        raise HostError("bad-argument", f"there is no folder {path.parent} for the socket")
    if not path.exists():
        return
    if not path.is_socket():
        raise HostError("bad-argument", f"{path} is no socket: it stays as it is")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        short_path(path) as short,
    ):
        if connection.connect_ex(short) == 0:
            raise HostError("bad-argument", f"{path} is in use by another `warden serve`")


def _uid_of(connection: socket.socket) -> int:
    """Return the user of the process at the other end, as the kernel knows it: unix(7)."""
    size = struct.calcsize("iII")
    _, uid, _ = struct.unpack(
        "iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(uid)


def _outcome(result: Line | HostError) -> str:
    """Return "ok", or the code of the error, also of one that a device answered."""
    if isinstance(result, HostError):
        return result.code
    if result.get("ok") is not False:
        return "ok"
    reply = result.get("reply")
    error = reply.get("error") if isinstance(reply, dict) else result.get("verdict")
    return jsontext.slug(error)


def _error_line(error: HostError) -> Line:
    return {"code": error.code, "text": error.text, "hint": error.hint}


def _read_line(connection: socket.socket, end: float) -> bytes:
    """Return what comes up to a line's end, or MAX_LINE + 1 bytes. Raises OSError at `end`."""
    data = bytearray()
    while len(data) <= MAX_LINE and b"\n" not in data:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        received = connection.recv(MAX_LINE + 1 - len(data))
        if not received:
            break
        data += received
    connection.settimeout(_SEND_S)
    return bytes(data.partition(b"\n")[0])


def _hung_up(connection: socket.socket) -> bool:
    """Return whether the caller closed the connection; what follows its request is dropped."""
    return bool(readable([connection.fileno()], 0)) and connection.recv(MAX_LINE) == b""
