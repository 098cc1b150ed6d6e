"""End an agent on purpose. agent/agent.py loads this module when it is asked to stop."""

from micropython import const

from ..errors import PeerError, ensure
from ..wire.names import COSE

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .agent import Agent

_MOST_SLEEP_S = const(2000000)  # in milliseconds it has 31 bits


def save(agent: "Agent") -> None:
    """Keep what waits: the agent is about to end."""
    if agent.incidents.rows:
        from . import incident_report

        incident_report.save_at_end(agent)
    if agent.delivery is not None:
        agent.delivery.save_at_end()


async def leave(agent: "Agent", asleep: "int | None", memory: "Any" = None) -> None:
    """Say goodbye, disconnect, end all tasks, save the outbox and erase the keys in memory.

    asleep: seconds until the device means to be back, or None. memory: that outlives deep sleep.
    UsageError bad-argument, before anything is done.
    """
    good = asleep is None or (type(asleep) is int and 0 < asleep <= _MOST_SLEEP_S)
    ensure(good, "bad-argument", "a sleep is a whole number of seconds above 0")
    first, agent.stopping = not agent.stopping, True
    for task in agent.tasks:
        task.cancel()
    # The deep sleep of an RP2 ends like a reset by the application.
    if first and "failures" in agent.vault.names():
        from ..board import app_failures

        app_failures.confirm(agent.vault)
    session = agent.authority()
    if session is not None and agent.client.connected:
        body = {"state": "stopped"} if asleep is None else {"state": "asleep", "s": asleep}
        try:
            topic = agent.names.event("offline", COSE).encode()
            agent.post(topic, session.seal("offline", 0, body))
        except PeerError as error:  # the authority will find out by itself
            agent.log(error.code, error.text)
    if session is not None and asleep is not None:
        # After a sealed goodbye that says more, the plain one would be bytes for nothing.
        await agent.client.disconnect(False)
    else:
        await agent.client.disconnect()
    # Before the memory: a later commit would make it another vault's.
    save(agent)
    # The authority tells at the start of a session alone what it has of the incident log.
    unsent = agent.incidents.kept and agent.incidents.acked >= 0
    if first and memory is not None and agent.sessions and not unsent:
        from ..session import resume

        # Nothing is sealed any more: the counters stay as they are.
        outbox = None if agent.delivery is None else agent.delivery.suspend()
        sessions: "Any" = agent.sessions
        if not resume.save(
            agent.vault, memory, sessions, outbox, agent.now_ms(), agent.clock.now()
        ):
            agent.log("no-session", "no session outlives this sleep")
    for session in agent.sessions:
        session.drop()
    agent.session_up.clear()
    agent.vault.close()
    agent.wakeup.set()
