"""Make the slots that board.py names: for the start (board/slots.py), and for an update long after
it (board/slot_access.py).
"""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..ota.slots import Slots


def open_slots(args: "tuple[Any, ...]") -> "Slots":
    """Return the slots of board.SLOTS, none of them locked."""
    slots: "Slots"
    if args[0] == "file":
        # In this module's file on a board: load.py, with what a start needs, takes 14 KB.
        from ..hal import slots_file

        slots = slots_file.make(args[1:])
    else:
        from . import load

        slots = load.find("slots_", args[0])(args[1:])
    if len(args) > 4:
        slots.make_check = _firmware_check(args[4])
    return slots


def _firmware_check(digests: "tuple[str, ...]") -> "Callable[[int], Any]":
    """Return what makes the check of a firmware image of `size` bytes: signed as `espsecure` does.

    digests: of the trusted keys, in hex, as the fuses have them.
    """

    def make(size: int) -> "Any":
        from ..crypto import p256, rsa
        from ..wire import sbv2

        trusted = [bytes.fromhex(digest) for digest in digests]
        return sbv2.Check(size, trusted, rsa.PublicKey, p256.PublicKey)

    return make
