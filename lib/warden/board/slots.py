"""The slots that board.py names, for firmware/boot.py: mount the one that is to run.

Apart from board/load.py, which a start lets go of: what is made here lives as long as the slots.
"""

import sys

from micropython import const

from ..errors import StoreError
from ..ota import boot
from ..ota.slots import SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable


def boot_slots(args: "tuple[Any, ...]") -> None:
    """Mount the slot that is to run. A board that is not provisioned stays as it is.

    args: board.SLOTS: kind, path, names, attempts, and the digests of firmware keys if there are
    any. When neither slot can run, /app leaves the module path: main.py starts the agent alone.
    """
    from . import load

    # If anything fails below, no unverified application runs.
    sys.path.remove("/app")
    try:
        board, vault = load.open_board()
    except StoreError as error:
        if error.code == "not-provisioned":
            return
        raise
    # Only now: a wipe that is finished, or a PIN that is typed, may take minutes.
    feed = None
    if hasattr(board, "WATCHDOG") and not load.in_development(board, vault):
        from ..hal import watchdog

        feed = watchdog.start(board.WATCHDOG)

    try:
        slots = load.find("slots_", args[0])(args[1:])
    except load.WRONG as error:
        raise load.explained(board, error)
    if len(args) > 4:
        slots.make_check = _firmware_check(args[4])
    result = boot.start(vault, slots, args[3], _on_damage, feed)
    if result.mode == "switch":
        from ..hal import system

        vault.close()
        system.reset()
        return
    load.opened.append(vault)
    if result.mode != "recovery":
        sys.path.insert(1, "/app")


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


def _on_damage(slot: int) -> None:
    """Give up the slot that runs, of which a block was changed, and restart with the other one."""
    from ..hal import system
    from . import load

    _, vault = load.open_board()
    SlotRecord(vault).fail(slot)
    system.reset()
