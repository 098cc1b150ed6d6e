"""Decide a trial: the slot is confirmed once the authority's session is up and the application is
healthy, and given up otherwise. Loaded during a trial.
"""

import asyncio

from micropython import const

from .slots import SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from ..agent.interface import Agent
    from .result import BootResult
    from .slots import Slots


async def run(
    agent: "Agent", result: "BootResult", slots: "Slots", ready: bool, left_ms: int
) -> "int | None":
    """Ask the application for its health where the device is ready, and decide.

    result: of the board's start; `trial` is False after the decision
    ready: the authority's session is up, and the gate is open
    left_ms: for the whole trial
    Returns: the sequence number that was confirmed, None for none. A trial that failed starts the
      board anew.
    """
    record = SlotRecord(agent.vault)
    if not ready or result.slot is None:
        if left_ms <= 0:
            agent.log("trial-failed", "it did not reach its authority, or its gate stayed shut")
            agent.restart()
        return None
    healthy = await _is_healthy(agent, left_ms)
    result.trial = False
    if healthy:
        record.confirm(result.slot)
        slots.settle()
        return record.slots[result.slot].sequence
    record.give_up(result.slot)
    agent.log("trial-failed", "the application reports that it is not healthy")
    agent.restart()
    return None


async def _is_healthy(agent: "Agent", left_ms: int) -> bool:
    check = agent.health
    if check is None:
        return True
    try:
        result = check()
        if hasattr(result, "send"):
            # A check that never ends must not keep a trial open for ever.
            result = await asyncio.wait_for_ms(result, max(1, left_ms))
    except Exception as error:  # the application's own: whatever it raises, it is not healthy
        agent.log("trial-failed", repr(error))
        return False
    return result is True
