"""Define the request to send a command, and its bounds.

Separate from commands.py, so that a caller of the control socket loads no engine.
"""

from typing import Any, NamedTuple

# Forgery → the code with which the device must refuse it.
FORGERIES = {
    "wrong-id": "wrong-application",
    "tamper": "tampered",
    "replay": "replayed",
    "old-session": "old-session",
    "plain": "plain-refused",
}
# A device pauses so long between two reports of a code, so that no flood makes another one.
REPORT_PAUSE_S = 10.0
MAX_TTL_S = 30 * 24 * 3600


class Request(NamedTuple):
    """A command for a device. ttl_s: seconds until it expires. forge: of FORGERIES, or "".

    timeout_s: until the answer; a report of a forgery may come REPORT_PAUSE_S later.
    """

    device: str
    command: str
    args: dict[str, Any]
    app: str = ""  # "": an application that may send the command
    ttl_s: int = 30
    timeout_s: float = 10.0
    forge: str = ""
    hold: bool = False  # until a sleeper is awake, or the command expires
    quiet: bool = False  # not announced: one chunk of thousands
