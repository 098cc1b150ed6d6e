"""The request to give a device a command, and the bounds that `warden send` shows.

Apart from the job that carries it out, so that a caller of the control socket loads no engine.
"""

from dataclasses import dataclass
from typing import Any

# Forgery → the code with which the device must refuse it.
FORGERIES = {
    "wrong-id": "wrong-application",
    "tamper": "tampered",
    "replay": "replayed",
    "old-session": "old-session",
    "plain": "plain-refused",
}
MAX_TTL_S = 30 * 24 * 3600


@dataclass(frozen=True)
class Request:
    device: str
    command: str
    args: dict[str, Any]
    app: str = ""  # "": the one that may give the command
    ttl_s: int = 30
    timeout_s: float = 10.0
    forge: str = ""
    quiet: bool = False  # not shown: a chunk of an update is one of thousands
