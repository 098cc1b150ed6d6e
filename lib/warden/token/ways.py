"""Log in by a certificate, or by a password or token, as the chosen broker's entry says.

Loaded where the policy's `auth` is an "or": the vault's record `brokers` then lists each broker
once for each way, `certificate` first.
"""

from micropython import const

from ..vault import records

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..errors import PeerError


class Ways:
    """Takes the place of a token's keeper on an agent: a certificate or a password."""

    renewing = False  # no connection is closed for a new secret alone

    def __init__(self, agent: "Any") -> None:
        self._agent = agent

    async def prepare(self) -> None:
        """Give the client what the next connection needs."""
        use_way(self._agent)

    def failed(self, error: "PeerError") -> bool:
        """Return False: the other way is the next entry of the brokers."""
        return False


def use_way(agent: "Any") -> str:
    """Give the next connection what its way needs, and nothing else; return the way.

    A new password or certificate that waits for a proof has its way taken first, and is tried on
    that one alone.
    """
    secrets: "Any" = getattr(agent.rotation, "secrets", None)
    brokers, client = agent.backoff, agent.client
    pending = [] if secrets is None else secrets.pending()
    first = [part for part in pending if part in ("password", "certificate")]
    brokers.prefer(first[0] if first else "")
    agent.server, way = brokers.server, brokers.way
    agent.trust.is_used = way == "certificate"
    _, _, user, password, _ = records.load(agent.vault, "broker")
    if way == "certificate":
        client.user = client.password = None
    else:
        new = secrets is not None and "password" in pending and secrets.is_used("password")
        client.user, client.password = user, secrets.password if new else password
    if secrets is not None:
        secrets.leave_out("password" if way == "certificate" else "certificate")
    return way
