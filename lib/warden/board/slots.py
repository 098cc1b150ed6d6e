"""The slots that board.py names, for firmware/boot.py: mount the one that is to run.

A start lets go of this module, too; board/slot_access.py stays.
"""

import sys

from micropython import const

from ..errors import StoreError
from ..ota import boot
from .slot_access import SlotAccess
from .slot_driver import open_slots

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


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
        slots = open_slots(args)
    except load.WRONG as error:
        raise load.explained(board, error)
    result = boot.start(vault, slots, args[3], SlotAccess(args), feed)
    if result.mode == "switch":
        from ..hal import system

        vault.close()
        system.reset()
        return
    load.opened.append(vault)
    if result.mode != "recovery":
        sys.path.insert(1, "/app")
