"""The result of a board's start, which outlives the code that chose the slot (ota/boot.py), and
the next start.
"""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..agent.interface import Agent
    from ..vault import Vault
    from .slots import Slots


class BootResult:
    """The result of a board's start.

    mode:
      application   a slot is mounted
      factory       no update was ever confirmed: the application that was provisioned runs
      recovery      neither slot can run: the agent starts without an application, for an update
      switch        the board has to start anew, with another firmware
    slot: the one that is mounted, None for none
    trial: whether the slot still has to be confirmed
    failed: the sequence number that was given up at this start, or 0
    """

    def __init__(self, mode: str, slot: "int | None", trial: bool, failed: int) -> None:
        self.mode = mode
        self.slot = slot
        self.trial = trial
        self.failed = failed
        self.reason = ""  # of `failed`: trial-failed or an error's code
        self.granted = False  # this trial passes the gate without a code
        # (the slot that runs) → the board's slots (board/slot_access.py); None where a program
        # called boot() itself.
        self.open_slots: "Callable[[int | None], Slots] | None" = None
        # update.Update, whose manifest this start verified (ota/deferred.py).
        self.update: "Any" = None


# The result of this start; None where the board has no slots.
boot_result: "BootResult | None" = None


def advance(vault: "Vault") -> int:
    """Return the number of this start, committed.

    ota/deferred.py may have raised the counter already. That counts once, since a second agent of
    the same start raises it again; and for this vault alone, since one that was provisioned
    meanwhile counts from the beginning, and would come to the same number later.
    """
    update = None if boot_result is None else boot_result.update
    if update is not None:
        number, update.boot = update.boot, 0
        if number and number == vault.counter("boot"):
            return number
    return vault.advance("boot")


async def restart(agent: "Agent") -> None:
    """Disconnect, and start the board anew with the slot that is staged."""
    await agent.client.disconnect()
    agent.restart()
