"""Limit how long a browser's connection may wait.

Uvicorn limits the pause after an answer alone. A client that sends its request in drops, or none,
or doesn't read its answer, would hold its place for ever.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from warden_host.web.places import Place, Places

WAIT_S = 10.0  # for a request, from its first byte or the connection on; for a reader
_LOOK_S = 1.0
# Of a WebSocket: bytes that came without a whole message (in a second some more: pings), and bytes
# that wait for a reader, such as answers to pings.
MOST_BYTES, _MORE_BYTES = 65536, 4096
MOST_UNREAD = 1 << 20


class Deadline:
    """End a connection whose client is late for WAIT_S; look about once a second.

    is_late: returns whether the client has to do something now. end: ends the connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        is_late: Callable[[], bool],
        end: Callable[[], None],
    ) -> None:
        self._loop, self._is_late, self._end = loop, is_late, end
        self._at: float | None = None
        self._look: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again until the end or stop()."""
        now = self._loop.time()
        if not self._is_late():
            self._at = None
        elif self._at is None:
            self._at = now + WAIT_S
        elif now >= self._at:
            self._end()
            return
        self._look = self._loop.call_later(_LOOK_S, self.start)

    def restart(self) -> None:
        """Give the client its whole time again."""
        self._at = None

    def stop(self) -> None:
        """Stop looking."""
        if self._look is not None:
            self._look.cancel()


class LimitedConnection(H11Protocol):
    """A connection that ends where its request or its reader is late."""

    def __init__(self, held: tuple[Places, Place], **options: Any) -> None:
        """held: the connection's place."""
        super().__init__(**options)
        self._places, self._place = held
        self._deadline = Deadline(self.loop, self.is_waiting, self.end)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the place over from the handshake."""
        super().connection_made(transport)
        self._place.connection = self
        self._places.wait(self._place)
        self._deadline.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        super().connection_lost(exc)
        self._places.leave(self._place)
        self._deadline.stop()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to LimitedWebSocket, which looks after it from then on."""
        self._deadline.stop()
        super().handle_websocket_upgrade(event)
        protocol = self.transport.get_protocol()
        if isinstance(protocol, LimitedWebSocket):
            protocol.hold(self._places, self._place)
        else:  # none are taken here
            self._places.leave(self._place)

    def on_response_complete(self) -> None:
        """Give the next request its own time."""
        self._deadline.restart()
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

    def _is_asked(self) -> bool:
        """Return whether a whole request came, which is not answered yet."""
        return self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)


class LimitedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that ends where its hand-shake or its reader is late.

    It keeps the place of its connection, and uvicorn's pings find a peer that is gone.
    """

    _places: Places
    _place: Place | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline = Deadline(self.loop, self._is_late, self.end)
        self._bytes = 0
        self._answered = False

    def hold(self, places: Places, place: Place) -> None:
        """Take a connection's place over."""
        self._places, self._place = places, place
        place.connection = self

    def is_waiting(self) -> bool:
        """Return whether the client has to send something: nothing was sent to it yet.

        The first message is the answer to its token.
        """
        return not self._answered

    def is_over(self) -> bool:
        """Return whether the connection is closing."""
        return self.transport.is_closing()

    def end(self) -> None:
        """End it at once."""
        self.transport.abort()

    async def send(self, message: Any) -> None:
        """Send on; note that the client was answered. Raises ClientDisconnected.

        A transport that ended logs each further write, until its end is told.
        """
        if message["type"] == "websocket.send" and self.transport.is_closing():
            raise ClientDisconnected
        self._answered = self._answered or message["type"] == "websocket.send"
        await super().send(message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over."""
        super().connection_made(transport)
        self._deadline.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        super().connection_lost(exc)
        if self._place is not None:
            self._places.leave(self._place)
        self._deadline.stop()

    def data_received(self, data: bytes) -> None:
        """Read on, unless a flood of pings or of empty pieces would fill the memory."""
        self._bytes += len(data)
        unread = self.transport.get_write_buffer_size()
        if self._bytes > MOST_BYTES or unread > MOST_UNREAD:
            self.transport.abort()
            return
        super().data_received(data)

    def send_receive_event_to_app(self) -> None:
        """Count anew behind a whole message: the next one waits until it is handled.

        Text that is not UTF-8 ends it: uvicorn would log a traceback for each stranger's.
        """
        self._bytes = 0
        if self.curr_msg_data_type == "text" and not self.close_sent and not self._is_utf8():
            self.frames = []
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def _is_utf8(self) -> bool:
        try:
            b"".join(self.frames).decode()
        except UnicodeDecodeError:
            return False
        return True

    def _is_late(self) -> bool:
        """Return whether the hand-shake or the reader is late; each look forgives some bytes."""
        self._bytes = max(0, self._bytes - _MORE_BYTES)
        # Not writable: above the transport's mark, 64 KB, for all of this time.
        return not (self.handshake_complete and self.writable.is_set())
