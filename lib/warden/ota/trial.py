"""What becomes of a trial: confirmed once the authority's session stands and the application says that it is well; else back. Loaded while one lasts."""

import asyncio

from micropython import const

from .slots import SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from .boot import BootResult


async def attempt(
    device: "Agent", outcome: "BootResult", slots: "Any", stands: bool, left_ms: int
) -> "int | None":
    """stands: the authority's session does, and the gate is open. left_ms: for the whole trial. The sequence number that was confirmed. A trial that is over starts
    the board anew."""
    record = SlotRecord(device.vault)
    if not stands or outcome.slot is None:
        if left_ms <= 0:
            device.log("trial-failed", "it did not reach its authority, or its gate stayed shut")
            device.restart()
        return None
    well = await _healthy(device, left_ms)
    outcome.trial = False
    if well:
        record.confirm(outcome.slot)
        slots.settle()
        return record.slots[outcome.slot].sequence
    record.give_up(outcome.slot)
    device.log("trial-failed", "the application says that it is not well")
    device.restart()
    return None


async def _healthy(device: "Agent", left_ms: int) -> bool:
    check = device.health
    if check is None:
        return True
    try:
        result = check()
        if hasattr(result, "send"):
            # One that never answers must not keep a trial open for ever, with no way forward and none back.
            result = await asyncio.wait_for_ms(result, max(1, left_ms))
    except Exception as error:  # of the application on trial: whatever it raises, it is not well
        device.log("trial-failed", repr(error))
        return False
    return result is True
