"""Accept browsers' connections for uvicorn, which would count them after the TLS handshake only.

A handshake that is late ends, as a late request does (connection.py).
"""

import asyncio
import socket
import ssl
from typing import Any

import uvicorn

from warden_host.web import connection
from warden_host.web.connection import LimitedConnection
from warden_host.web.places import Places

_PAUSE_S = 0.1
_END_S = 1.0  # that answers have when the server ends: the stream of a page has no end of its own


class Server(uvicorn.Server):
    """Serve on sockets that listen."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._places = Places()
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets=[])
        for listener in sockets or []:
            listener.setblocking(False)
            self._start(self._accept(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and end what is open."""
        for task in self._tasks:
            task.cancel()
        ending = asyncio.get_running_loop().call_later(_END_S, self._abort)
        await super().shutdown(sockets)
        ending.cancel()

    def _abort(self) -> None:
        """End what is still open, so that uvicorn waits for nothing."""
        for one in self.server_state.connections:
            one.transport.abort()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError:  # no file is left to open, or the client is gone
                await asyncio.sleep(_PAUSE_S)
                continue
            opening = _Opening(accepted)
            place = self._places.enter(address[0], opening)
            if place is None:
                accepted.close()
            else:
                made = LimitedConnection(
                    (self._places, place),
                    config=self.config,
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                )
                opening.task = self._start(self._open(opening, made))
                opening.task.add_done_callback(opening.close_unless_open)
            await asyncio.sleep(0)  # a flood of them leaves the others their turn

    async def _open(self, opening: "_Opening", made: LimitedConnection) -> None:
        """Let uvicorn's protocol have the connection, once the handshake is done."""
        context = self.config.ssl
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: made,
                opening.accepted,
                ssl=context,
                ssl_handshake_timeout=connection.WAIT_S if context else None,
            )
        except (OSError, ssl.SSLError):  # the client's fault, or its patience
            return
        opening.opened = True

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Opening:
    """A connection in its handshake; it waits for its client."""

    def __init__(self, accepted: socket.socket) -> None:
        self.accepted = accepted
        self.opened = False
        self.task: asyncio.Task[None] | None = None

    def is_waiting(self) -> bool:
        return True

    def is_over(self) -> bool:
        return self.task is not None and self.task.done()

    def end(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def close_unless_open(self, _: object) -> None:
        """Close the socket of a handshake that failed, or of a task that never began."""
        if not self.opened:
            self.accepted.close()
