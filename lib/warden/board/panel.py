"""What a board has for the gate: KEYPAD and DISPLAY of board.py. Loaded where the policy has one.

KEYPAD = ("matrix", …) is made by make() of hal/keypad_matrix.py, DISPLAY = ("console",) by that of
hal/display_console.py.
"""

from micropython import const

from ..errors import UsageError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


def panel() -> "Any":
    """Return (keypad, display or None, whether a battery keeps the clock); None without a keypad.

    Keypad and display: (make, its arguments). They are made later, and again when one failed.
    UsageError no-board.
    """
    import board

    # Here: as a name of this module, either would keep all of the start's code while it is shut.
    from .load import explained, find

    if not hasattr(board, "KEYPAD"):
        return None
    keypad, shown = board.KEYPAD, getattr(board, "DISPLAY", None)
    # CLOCK = ("chip", True): a battery keeps it, so its time is valid from the start.
    kept = board.CLOCK[0] == "chip" and len(board.CLOCK) > 1 and board.CLOCK[1] is True
    try:
        display = None if shown is None else (find("display_", shown[0]), shown[1:])
        return (find("keypad_", keypad[0]), keypad[1:]), display, kept
    except (AttributeError, IndexError, TypeError, UsageError) as error:
        raise explained(board, error)
