"""Choose the back-off after a link that ended, and report several ends in a row.

Loaded when a link ended, and unloaded again.
"""

from micropython import const

from ..errors import LinkError, PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .agent import Agent

_MANY = const(3)  # ends of one kind in a row that mean something
_EARLY_MS = const(60000)
_LONGEST_MS = const(60000)  # wait behind a log-in that the broker accepted
# Wait behind a lost or refused route: this, and a share of the time for which the broker is away.
_SOON_MS = const(4000)
_SHARE = const(8)


def record(agent: "Agent", error: PeerError, began_ms: int) -> None:
    """Choose the back-off after a link that ended with `error`; report several ends in a row.

    began_ms: when the attempt began, by the agent's uptime.
    """
    accepted, code = agent._client.accepted, error.code
    now = agent._uptime.now_ms()
    if accepted:
        agent._reached_ms = now
    # A subscription that was refused says nothing against the password.
    rotation = None if accepted and code == "mqtt-refused" else agent._rotation
    if rotation is not None and rotation.failed(error):
        agent._backoff.reset()  # the other secret may be the right one
    elif accepted:
        agent._backoff.limit(_LONGEST_MS)
    elif code == "mqtt-refused":
        agent._backoff.slow_down()  # a wrong password does not get better by trying
    elif isinstance(error, LinkError):
        # Back soon after the broker is, and more rarely the longer it is away.
        agent._backoff.limit(_SOON_MS + (now - agent._reached_ms) // _SHARE)
    if accepted or not isinstance(error, LinkError):
        agent._unreached = 0
    else:
        agent._unreached += 1
        rows, more = divmod(agent._unreached, _MANY)
        # After one, two, four, eight rows: joining takes seconds in which the broker may come back.
        if not more and not rows & (rows - 1) and hasattr(agent._network, "failed"):
            agent._network.failed()
    if not accepted or code != "link-closed" or now - began_ms > _EARLY_MS:
        agent._ended_early = 0
        return
    agent._ended_early += 1
    if agent._ended_early >= _MANY:
        agent._ended_early = 0
        agent._log("link-taken", "another client may use this device's name and password")
        agent._incidents.add("link-taken", "link", now)
