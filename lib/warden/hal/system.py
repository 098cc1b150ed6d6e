"""What a board does besides storing and connecting: start over."""

import sys

import machine

# Before a start that follows a failure: each start commits a counter, and a board that fails at
# once would do so many times a second.
PAUSE_S = 10


def reset() -> None:
    """Start the board anew. On the unix port the process ends with code 3, for its simulator."""
    if hasattr(machine, "reset"):
        machine.reset()
    sys.exit(3)
