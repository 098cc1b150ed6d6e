"""Limit how long a browser's connection may wait, and how many there are.

Uvicorn limits the pause after an answer alone. A client that sends its request in drops, or none,
or doesn't read its answer, would hold its place for ever.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

WAIT_S = 10.0  # for a request, from its first byte or the connection on; for a reader
MOST = 256  # connections
MOST_OF_AN_ADDRESS = 192  # so that one address does not take them all
_LOOK_S = 1.0


class LimitedConnection(H11Protocol):
    """A connection that ends where its request or its reader is late."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late_at: float | None = None
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the connection, or end it above the limits."""
        super().connection_made(transport)
        address = _address(self)
        of_it = sum(_address(one) == address for one in self.connections)
        if len(self.connections) > MOST or of_it > MOST_OF_AN_ADDRESS:
            transport.abort()
            return
        self._check()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        super().connection_lost(exc)
        if self._look is not None:
            self._look.cancel()

    def on_response_complete(self) -> None:
        """Give the next request its own time."""
        self._late_at = None
        super().on_response_complete()

    def _check(self) -> None:
        now = self.loop.time()
        asked = self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)
        if asked and not self.transport.get_write_buffer_size():
            self._late_at = None
        elif self._late_at is None:
            self._late_at = now + WAIT_S
        elif now >= self._late_at:
            self.transport.abort()
            return
        self._look = self.loop.call_later(_LOOK_S, self._check)


def _address(connection: Any) -> str:
    return connection.client[0] if connection.client else ""
