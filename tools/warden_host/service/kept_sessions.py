"""Keep the console's sessions over a restart of `warden serve`, so that open pages come back.

The file is written when the console ends as it should, and removed before it is believed: it
counts once, and no session that ended since comes back from it. It holds hashes of tokens, which
open nothing. Times are steady ones, so it is of this boot of the machine alone.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

from warden_host import jsontext
from warden_host.errors import HostError

FILE = "web.sessions"
MOST_BYTES = 1 << 20
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def put(root: Path, rows: list[list[Any]]) -> None:
    """Write the sessions; where that fails they end with the console."""
    path = root / FILE
    data = jsontext.dump({"boot": _boot(), "sessions": rows}).encode()
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)


def pop(root: Path) -> list[Any]:
    """Return the sessions that were written, and remove them; none of another boot."""
    path = root / FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        path.unlink()
        kept = jsontext.parse_object(data, MOST_BYTES)  # refuses what is larger
    except (OSError, HostError):
        return []
    rows = kept.get("sessions")
    if not _boot() or kept.get("boot") != _boot() or not isinstance(rows, list):
        return []
    return rows


def _boot() -> str:
    """Return what tells this start of the machine from others, or ''."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
