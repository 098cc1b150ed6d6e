"""The board's slots, opened again for an update long after the start: what board/slots.py leaves
in the heap.
"""

import sys

from micropython import const

from .. import unload

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..ota.slots import Slots


class SlotAccess:
    """args: board.SLOTS"""

    def __init__(self, args: "tuple[Any, ...]") -> None:
        self._args = args

    def open(self, running: "int | None") -> "Slots":
        """Return the slots, of which the one that runs is locked. running: it, None for neither"""
        late = "warden.board.load" not in sys.modules
        from .slot_driver import open_slots

        try:
            slots = open_slots(self._args)
        finally:
            if late:  # the second one is its file on a board, where a start is over
                for name in ("warden.board.load", "warden.agent.build"):
                    unload(name)
        if running is not None:
            slots.lock(running)
        return slots

    def give_up(self, slot: int) -> None:
        """Mark the slot that runs as failed, of which a block was changed; restart the board with
        the other one.
        """
        from ..hal import system
        from ..ota.slots import SlotRecord
        from . import load

        _, vault = load.open_board()
        SlotRecord(vault).fail(slot)
        system.reset()
