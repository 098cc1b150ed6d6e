"""Limit how long a browser's connection may wait.

Uvicorn limits the pause after an answer alone. A client that sends its request in drops, or none,
or doesn't read its answer, would hold its place for ever.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from warden_host.web.places import Place, Places

WAIT_S = 10.0  # for a request, from its first byte or the connection on; for a reader
_LOOK_S = 1.0


class LimitedConnection(H11Protocol):
    """A connection that ends where its request or its reader is late."""

    def __init__(self, held: tuple[Places, Place], **options: Any) -> None:
        """held: the connection's place."""
        super().__init__(**options)
        self._places, self._place = held
        self._late_at: float | None = None
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the place over from the handshake."""
        super().connection_made(transport)
        self._place.connection = self
        self._places.wait(self._place)
        self._check()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        super().connection_lost(exc)
        self._places.leave(self._place)
        if self._look is not None:
            self._look.cancel()

    def on_response_complete(self) -> None:
        """Give the next request its own time."""
        self._late_at = None
        self._places.wait(self._place)
        super().on_response_complete()

    def is_waiting(self) -> bool:
        """Return whether the client has to send something, or to take its answer."""
        return not self._is_asked() or bool(self.transport.get_write_buffer_size())

    def is_over(self) -> bool:
        """Return whether the connection is closing."""
        return self.transport.is_closing()

    def end(self) -> None:
        """End it at once."""
        self.transport.abort()

    def _check(self) -> None:
        now = self.loop.time()
        if self._is_asked() and not self.transport.get_write_buffer_size():
            self._late_at = None
        elif self._late_at is None:
            self._late_at = now + WAIT_S
        elif now >= self._late_at:
            self.transport.abort()
            return
        self._look = self.loop.call_later(_LOOK_S, self._check)

    def _is_asked(self) -> bool:
        """Return whether a whole request came, which is not answered yet."""
        return self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)
