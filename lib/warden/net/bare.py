"""A connection without TLS, for sealed sessions alone. Loaded only where the policy allows it.

All on the network can read the log-in, topics, sizes and times, and can cut, delay and inject.
What the sealed session protects stays protected: commands and events.
"""

from micropython import const

from ..errors import LinkError
from .link import Link
from .meter import Meter

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


class _NoVerifier:
    """What the agent asks of a verifier: no certificate, and so no pin and no dates."""

    leaf = b""
    not_before = 0
    not_after = const((1 << 32) - 1)


class BareLink(Link):
    """A Link whose bytes go over TCP as they are."""

    async def shake(self, host: str, first: bytes, start: int, deadline_ms: int) -> None:
        """Write `first` and what rest() returns over the open connection."""
        verifier: "Any" = _NoVerifier()
        self.verifier = verifier
        self.use()
        try:
            await self.write_all(first + self.rest(), start, deadline_ms)
        except OSError:
            raise LinkError("link-closed")

    def use(self) -> None:
        """Take the open socket as it is."""
        self.tls, self.meter = self.raw, Meter(self.raw)
