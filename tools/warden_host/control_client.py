"""Call the control socket of a running `warden serve` (service/control.py).

Apart from the server, since lower layers call it too: the registry of the broker's accounts says
which connections it dropped.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warden_client import values

from warden_host import jsontext
from warden_host.errors import CODES, HostError
from warden_host.stopping import LineReader, Stop

MAX_LINE = 65536
_CONNECT_S = 15.0
_DEPTH = values.MAX_DEPTH * 2  # a line wraps a device's message

Line = dict[str, Any]


def stream(
    path: Path, request: Line, timeout_s: float | None = None, stop: Stop | None = None
) -> Iterator[Line]:
    """Yield the lines of one call, until its end or a stop.

    timeout_s: for each line, None to wait for ever.
    Raises: not-serving, timed-out and the error that it answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        # Never without: a connect to a server that hangs with a full queue would wait for ever.
        connection.settimeout(_CONNECT_S if timeout_s is None else timeout_s)
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
        reader = LineReader(connection.fileno(), stop, timeout_s)
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
                raise raised(line["error"])
            yield line


def call(path: Path, request: Line, timeout_s: float = 15.0) -> Line:
    """Return the answer to a request. Raises as stream()."""
    for line in stream(path, request, timeout_s):
        return line
    raise HostError("not-serving", "`warden serve` ended in the meantime")


def raised(line: Line) -> HostError:
    """Return the error that `warden serve` answered."""
    code = line.get("code")
    known = code if isinstance(code, str) and code in CODES else "control-malformed"
    return HostError(known, str(line.get("text", "")), str(line.get("hint", "")))


def now_mark() -> int:
    """Return this moment as `watch` takes it: all processes of this machine have the same clock.

    In steady microseconds: a clock that is set back would repeat events, or lose them.
    """
    return time.monotonic_ns() // 1000


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give the socket a name of at most 108 bytes, the limit of a unix socket's address."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
