"""Files that hold secrets: mode 0600, owned by this user, replaced in one step.

Reading a private key that other users can read is an error, not a warning: it is no secret.
"""

import contextlib
import os
import stat
from pathlib import Path

from warden_client.errors import HostError

MAX_BYTES = 1 << 20


def write(path: Path, data: bytes) -> None:
    """Replace the file in one step; other users can't read it at any moment."""
    fresh = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def read(path: Path, limit: int = MAX_BYTES, damaged: str = "key-damaged") -> bytes:
    """Return the file's bytes.

    limit: bytes. damaged: the code for a larger file. Raises: key-missing, key-permissions.
    """
    try:
        # Not blocking: a pipe without a writer would hold the open until there is one.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise HostError(
            "key-missing", f"{path.name} is not there", "restore it from a backup of the fleet"
        ) from None
    except OSError as error:
        raise HostError(
            "key-permissions", f"{path.name} can't be opened: {error.strerror}"
        ) from None
    try:
        check_mode(os.fstat(descriptor), path)
    except HostError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:  # which refuses a folder in words of its own
        data = file.read(limit + 1)
    if len(data) > limit:
        raise HostError(damaged, f"{path.name} has more than {limit} bytes")
    return data


def check_mode(status: os.stat_result, path: Path, owner: int | None = None) -> None:
    """Raise key-permissions unless it is a regular file that its owner alone can open.

    owner: the user whose it must be, as a number; None for this one.
    """
    if not stat.S_ISREG(status.st_mode):
        raise HostError("key-permissions", f"{path.name} is not a regular file")
    if status.st_uid != (os.geteuid() if owner is None else owner):
        raise HostError(
            "key-permissions", f"{path.name} belongs to another user", "run as the fleet's owner"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise HostError(
            "key-permissions",
            f"{path.name} can be read by others (mode {stat.S_IMODE(status.st_mode):04o})",
            f"chmod 600 {path.name}; if the machine has other users, replace the key",
        )
