"""Lock files: one process at a time works on a device's folder or on the broker's accounts."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warden_host.errors import HostError
from warden_host.numerals import decimal


class Lock:
    """A flock held through an open file, which a child process may inherit."""

    def __init__(self, descriptor: Any) -> None:
        self.file = descriptor

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def fileno(self) -> int:
        number: int = self.file.fileno()
        return number


def try_lock(path: Path) -> Lock | None:
    """Lock the file at path; return None where another process holds it."""
    file = open(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return Lock(file)


@contextlib.contextmanager
def wait_for_lock(path: Path, what: str, seconds: float) -> Iterator[None]:
    """Hold the lock at path, as soon as its present holder releases it.

    what: the holder's work, for the error's text. Raises: timed-out after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while (lock := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise HostError(
                "timed-out",
                f"another `warden` has been {what} all the time",
                "is one stuck, or waiting in another window? end it and try again",
            )
        time.sleep(0.05)
    with lock:
        yield


def holder_hint(path: Path) -> str:
    """Return the pid that its holder wrote into the lock file, as " (pid 12)" for an error, or
    ""."""
    with contextlib.suppress(OSError):
        pid = path.read_text()[:10]
        if decimal(pid, 10**9) is not None:
            return f" (pid {pid})"
    return ""
