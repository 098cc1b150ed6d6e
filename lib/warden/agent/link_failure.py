"""What a link that ended means: the back-off, the network, and a word to the operator. Loaded when one ended, and unloaded after."""

from micropython import const

from ..errors import LinkError, PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .agent import Agent

_MANY = const(3)  # ends of one kind in a row that mean something
_EARLY_MS = const(60000)
_LONGEST_MS = const(60000)  # wait behind a log-in that the broker accepted


def record(agent: "Agent", error: PeerError, began_ms: int) -> None:
    """Choose the back-off after a link that ended with `error`; report several ends in a row.

    began_ms: when the attempt began, by the agent's uptime.
    """
    accepted, code = agent._client.accepted, error.code
    # A subscription that was refused says nothing against the password.
    rotation = None if accepted and code == "mqtt-refused" else agent._rotation
    if rotation is not None and rotation.failed(error):
        agent._backoff.reset()  # the other secret may be the right one
    elif accepted:
        agent._backoff.limit(_LONGEST_MS)
    elif code == "mqtt-refused":
        agent._backoff.slow_down()  # a wrong password does not get better by trying
    if accepted or not isinstance(error, LinkError):
        agent._unreached = 0
    else:
        agent._unreached += 1
        if agent._unreached >= _MANY and hasattr(agent._network, "failed"):
            agent._unreached = 0
            agent._network.failed()
    now = agent._uptime.now_ms()
    if not accepted or code != "link-closed" or now - began_ms > _EARLY_MS:
        agent._ended_early = 0
        return
    agent._ended_early += 1
    if agent._ended_early >= _MANY:
        agent._ended_early = 0
        agent._log("link-taken", "another client may use this device's name and password")
        agent._incidents.add("link-taken", "link", now)
