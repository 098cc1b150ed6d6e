"""An HTTP server for reading: pages, and streams of server-sent events.

It has no log-in: bind it to loopback, or to an address that a proxy with one guards. A web page
of another origin can't read it: the host name of a request must be one of this server's.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_CONNECTIONS = 32
_TIMEOUT_S = 15.0
_HEADERS_S = 15.0  # for a request's head, from the connection on: a client may send it in drops
_POLL_S = 0.1  # how soon it ends
# Return a page's type and body.
Page = Callable[[], tuple[str, bytes]]
# Write a stream until the event is set: called with what writes bytes, and the event.
Stream = Callable[[Callable[[bytes], object], threading.Event], None]


class PageServer:
    """Serve pages and streams by their paths, until close()."""

    def __init__(
        self,
        host: str,
        port: int,
        pages: Mapping[str, Page],
        streams: Mapping[str, Stream] | None = None,
    ) -> None:
        """Bind the port. Raises OSError."""
        names = {host, "localhost", "127.0.0.1", "[::1]"}
        self._server = _Server((host, port), names, dict(pages), dict(streams or {}))
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Close the port and end the streams."""
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        address: tuple[str, int],
        names: set[str],
        pages: dict[str, Page],
        streams: dict[str, Stream],
    ) -> None:
        """names: that a request's Host header may have."""
        self.names = names
        self.pages = pages
        self.streams = streams
        self.stopping = threading.Event()
        self._free = threading.Semaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own, or close it above the limit."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # it got no thread: its place is free again
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Drop a broken connection without a word."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S
    protocol_version = "HTTP/1.0"  # one request a connection
    server_version = "warden"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self._late = threading.Timer(_HEADERS_S, self._hang_up)
        self._late.daemon = True
        self._late.start()

    def finish(self) -> None:
        self._late.cancel()
        super().finish()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):  # it may have ended this moment
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        """Answer with a page or a stream."""
        self._late.cancel()
        host = self.headers.get("Host", "localhost")
        page, stream = self.server.pages.get(self.path), self.server.streams.get(self.path)
        if host.rpartition(":")[0] not in self.server.names and host not in self.server.names:
            self.send_error(421, "another host name")
        elif page is not None:
            self._answer(*page())
        elif stream is not None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self._end_headers()
            stream(self.wfile.write, self.server.stopping)
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Write no line for a request."""

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self._end_headers()
        self.wfile.write(body)

    def _end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
