"""React to what somebody does at the device itself, as the policy says: ignore, lock or wipe.

Nothing that arrives over the network leads here: agent/device.py calls it for the application's
tamper switch, gate/gate.py for wrong codes that the device verified itself. Loaded then.
"""

import asyncio

from micropython import const

from ..errors import PeerError, StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .agent import Agent

_REPORT_MS = const(1000)


async def react(agent: "Agent", reaction: str, at: str) -> None:
    """Lock or wipe the device. at: what was tampered with. StoreError wiped."""
    if reaction == "lock" and not agent.inbox.locked:
        agent.vault.put("locked", at.encode())
        agent.inbox.locked = True
        agent.log("locked", at)
    elif reaction == "wipe":
        await _wipe(agent, at)


async def _wipe(agent: "Agent", at: str) -> None:
    """Destroy the secrets first; then report it, as long as the sessions' keys are in memory."""
    from ..vault.wipe import wipe

    wipe(agent.vault)
    agent.log("wiped", at)
    try:
        report = agent.send("incident", {"code": "wiped", "n": 1, "at": at})
        await asyncio.wait_for_ms(report, _REPORT_MS)
    except (PeerError, asyncio.TimeoutError):
        pass
    await agent.client.disconnect()
    for session in agent.sessions:
        session.drop()
    agent.restart("wiped")
    raise StoreError("wiped", "the policy asks for it")
