"""Calls of an application that wait: time-outs, acknowledged events, changes of state.

agent/device.py loads this module when the first such call is made.
"""

import asyncio

from micropython import const

from ..errors import LinkError, ensure
from ..wire.names import JSON

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Coroutine

    from ..session.session import Session
    from .agent import Agent
    from .device import Device

_PAUSE_MS = const(20)
_MOST_S = const(500000)  # MicroPython's ticks wrap after 6.2 days


async def within(work: "Coroutine[Any, Any, Any]", timeout: float) -> "Any":
    """Await a coroutine for timeout seconds at most, then cancel it.

    UsageError bad-argument for a time-out that is not above 0 and up to 500,000. LinkError
    link-timeout.
    """
    good = isinstance(timeout, (int, float)) and 0 < timeout <= _MOST_S
    ensure(good, "bad-argument", "a time-out is above 0 and at most 500,000 seconds")
    try:
        return await asyncio.wait_for_ms(work, int(timeout * 1000))
    except asyncio.TimeoutError:
        raise LinkError("link-timeout", "not done within %s s" % timeout)


async def changed(agent: "Agent", device: "Device") -> None:
    """Wait until device.connected or device.session has another value."""
    before = device.connected, device.session
    while (device.connected, device.session) == before:
        await agent.wakeup.wait()
        await asyncio.sleep_ms(_PAUSE_MS)  # the agent's own task clears the event meanwhile


async def publish(
    agent: "Agent",
    event: str,
    body: "dict[str, Any]",
    sessions: "list[Session]",
    pending: "list[str]",
) -> bool:
    """Send an event with QoS 1, to one application after the other.

    sessions: those that are up and addressed. pending: appids whose copy the broker has not
    acknowledged; empty at the first call, which fills it. Each copy is queued by the call that
    seals it: counters reach the broker in their order.
    Return whether all of them were acknowledged. PeerError when the connection breaks.
    """
    plain = agent.plain
    if plain is not None:
        await agent.post(
            agent.names.event(event, JSON).encode(), plain.event(event, {"body": body}), 1
        )
        return True
    if not pending:
        pending.extend([session.appid for session in sessions])
    for session in sessions:
        if session.appid in pending and session.up:
            await agent.post(agent.names.sealed(event)[0], session.seal(event, 0, body), 1)
            # A rotation has a session under each of two keys: one copy is enough.
            while session.appid in pending:
                pending.remove(session.appid)
            if not pending:
                return True
    return False
