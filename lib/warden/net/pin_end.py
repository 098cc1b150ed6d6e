"""Close a connection whose server's pin ends while it lasts. Loaded for such a pin alone."""

import asyncio

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .link import Link
    from .verifier import Verifier

_POLL_MS = const(60000)  # the clock may be set meanwhile


async def watch(link: "Link", verifier: "Verifier") -> None:
    """Close the link when the pin ends that its server matched; end with the connection."""
    while link.verifier is verifier and link.raw is not None:
        left = verifier.pin_end - link.clock.now()
        if left <= 0:
            link.close()
            return
        await asyncio.sleep_ms(min(_POLL_MS, left * 1000))
