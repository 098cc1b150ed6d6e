"""What a board does besides storing and connecting: start over, and keep the console to itself."""

import sys


def reset() -> None:
    """Start the board anew. On the unix port the process ends with code 3, and whoever simulates the board starts it again."""
    import machine

    if hasattr(machine, "reset"):
        machine.reset()
    sys.exit(3)


def lock_console() -> None:
    """Ctrl-C on the serial port must not drop an attacker into a REPL that has the vault open."""
    import micropython

    micropython.kbd_intr(-1)
