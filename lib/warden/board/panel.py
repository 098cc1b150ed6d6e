"""What board.py names for the gate: KEYPAD = ("matrix", …) is hal/keypad_matrix.py, DISPLAY = ("console",) is hal/display_console.py. Loaded where the
policy has a gate.
"""

from micropython import const

from .load import find

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


def panel() -> "Any":
    """((make, its arguments) of the keypad, the same of the display or None, whether a battery keeps the clock); None for a board without a keypad. The parts are
    made later, and again when one did not answer. UsageError no-board."""
    import board

    if not hasattr(board, "KEYPAD"):
        return None
    keypad, shown = board.KEYPAD, getattr(board, "DISPLAY", None)
    display = None if shown is None else (find("display_", shown[0]), shown[1:])
    # CLOCK = ("chip", True): it goes on without power, so its time is good from the start.
    kept = board.CLOCK[0] == "chip" and len(board.CLOCK) > 1 and board.CLOCK[1] is True
    return (find("keypad_", keypad[0]), keypad[1:]), display, kept
