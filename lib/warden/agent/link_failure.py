"""Choose the back-off after a link that ended, and report several ends in a row.

Loaded when a link ended, and unloaded again.
"""

import os
import sys

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .agent import Agent

_MANY = const(3)  # ends of one kind in a row that mean something
# What a captive portal looks like, which answers in the place of every server.
_OTHER_SERVER = const(("no-tls", "certificate-untrusted"))
_EARLY_MS = const(60000)
_LONGEST_MS = const(60000)  # wait behind a log-in that the broker accepted
# A connection that lasted so long and was closed: its broker is most often back at once.
_LASTED_MS = const(10000)
# Wait behind a lost or refused route: this, and a share of the time for which the broker is away.
_SOON_MS = const(3000)
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
    several: "Any" = agent.backoff if hasattr(agent.backoff, "server") else None
    many = _MANY
    if several is not None:
        several.resume()
        many *= several.count  # each is tried so often
    accepted, code = agent.client.accepted, error.code
    now = agent.now_ms()
    if accepted:
        reached_ms = now
    token = agent.token
    if token is None or not token.renewing:  # which closes a connection without a fault
        agent.report(code, "link")
    # A subscription that was refused says nothing against the password.
    rotation = None if accepted and code == "mqtt-refused" else agent.rotation
    if rotation is not None and rotation.failed(error):
        agent.backoff.reset()  # the other secret may be the right one
    elif token is not None and token.failed(error):
        agent.backoff.reset()  # with another token
    elif not accepted and not isinstance(error, LinkError) and _new_pins(agent):
        agent.backoff.reset()
    elif accepted:
        soon = code == "link-closed" and now - began_ms >= _LASTED_MS
        agent.backoff.limit(agent.backoff.least_ms // 2 if soon else _LONGEST_MS)
    elif code == "mqtt-refused" or code == "token-refused" or code.startswith("own-"):
        agent.backoff.slow_down()  # a wrong password does not get better by trying
    elif isinstance(error, LinkError):
        # Back soon after the broker is, and more rarely the longer it is away.
        agent.backoff.limit(_SOON_MS + (now - reached_ms) // _SHARE)
    if accepted and code == "link-timeout":
        unreached = many - 1  # the way may be dead: one attempt shows it
    elif code in _OTHER_SERVER and not getattr(agent.network, "proved", True):
        text = "another server answers on this network: does it want a log-in at a browser?"
        agent.log("captive-portal", text)
        agent.report("captive-portal", "link")
        agent.network.failed()
    elif accepted or code == "mqtt-unavailable" or not isinstance(error, LinkError):
        unreached = 0
    else:
        unreached += 1
        rows, more = divmod(unreached, many)
        # After 1, 2, 4, 8 rows: joining takes seconds in which the broker may come back.
        if not more and not rows & (rows - 1) and hasattr(agent.network, "failed"):
            agent.network.failed()
        if not more and agent.ota is not None:
            agent.ota.make_room()  # TLS may have failed for lack of memory
    if accepted and code == "link-closed" and now - began_ms <= _EARLY_MS:
        early += 1
        if early >= _MANY:
            early = 0
            agent.log("link-taken", "another client may use this device's name and password")
            agent.report("link-taken", "link")
    else:
        early = 0
    if several is not None:
        several.failed(accepted)
        agent.server = several.server
    return unreached, early, reached_ms


def _new_pins(agent: "Agent") -> bool:
    """Return whether a file with new pins was there, and applied."""
    if "pins.cose" not in os.listdir("/") and "sd" not in os.listdir("/"):
        return False
    slots = "warden.ota.result" in sys.modules
    try:
        from ..ota.update import run_transient
    except (ImportError, AttributeError):
        return False  # a board without the files of updates, and so without release keys
    found = run_transient(_apply_pins, agent)
    if agent.ota is None or not agent.ota.busy():
        unload("warden.ota.update")
        unload("warden.ota.slots")
        if not slots:
            unload("warden.ota.result")
    return bool(found)


def _apply_pins(agent: "Agent") -> bool:
    from ..ota.update import verifiers
    from ..rotation.pins_file import apply_found

    return apply_found(agent, verifiers)
