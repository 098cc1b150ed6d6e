"""What a board does besides storing and connecting: start over."""

import sys

import machine
from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Before a start that follows a failure: each start commits a counter, and a board that fails at
# once would do so many times a second.
PAUSE_S = 10
# Whether Ctrl-C ends the application into the REPL: hal/console.py, development mode.
console_open = False
console_timer: "Any" = None  # ends that
RESET = 3  # the status with which a process of the unix port ends, for its simulator


def reset() -> None:
    """Start the board anew. On the unix port: SystemExit with RESET."""
    if hasattr(machine, "reset"):
        machine.reset()
    sys.exit(RESET)
