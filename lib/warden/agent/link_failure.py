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


def record(
    agent: "Agent", ends: "tuple[int, int, int]", error: PeerError, began_ms: int
) -> "tuple[int, int, int]":
    """Choose the back-off after a link that ended with `error`; report several ends in a row.

    ends: what the last call returned: attempts in a row that reached no broker, accepted
    connections in a row that were closed early, and when the broker was last reached.
    began_ms: when the attempt began. Times are milliseconds of agent.now_ms().
    """
    unreached, early, reached_ms = ends
    accepted, code = agent.client.accepted, error.code
    now = agent.now_ms()
    if accepted:
        reached_ms = now
    # A subscription that was refused says nothing against the password.
    rotation = None if accepted and code == "mqtt-refused" else agent.rotation
    if rotation is not None and rotation.failed(error):
        agent.backoff.reset()  # the other secret may be the right one
    elif accepted:
        agent.backoff.limit(_LONGEST_MS)
    elif code == "mqtt-refused":
        agent.backoff.slow_down()  # a wrong password does not get better by trying
    elif isinstance(error, LinkError):
        # Back soon after the broker is, and more rarely the longer it is away.
        agent.backoff.limit(_SOON_MS + (now - reached_ms) // _SHARE)
    if accepted or not isinstance(error, LinkError):
        unreached = 0
    else:
        unreached += 1
        rows, more = divmod(unreached, _MANY)
        # After 1, 2, 4, 8 rows: joining takes seconds in which the broker may come back.
        if not more and not rows & (rows - 1) and hasattr(agent.network, "failed"):
            agent.network.failed()
    if accepted and code == "link-closed" and now - began_ms <= _EARLY_MS:
        early += 1
        if early >= _MANY:
            early = 0
            agent.log("link-taken", "another client may use this device's name and password")
            agent.report("link-taken", "link")
    else:
        early = 0
    return unreached, early, reached_ms
