"""An HTTP server for reading: /metrics for Prometheus, /events as server-sent events.

It has no log-in: bind it to loopback, or to an address that a proxy with one guards. A web page
of another origin can't read it: the host name of a request must be one of this server's.
"""

import contextlib
import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from warden_host.bridge.bridge import Bridge
from warden_host.bridge.metrics import Metrics

MAX_CONNECTIONS = 32
_TIMEOUT_S = 15.0
_BACKLOG = 1000  # events that a slow reader may be behind
_KEEPALIVE_S = 15.0
_POLL_S = 0.1  # how soon it ends
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Readers:
    """The readers of /events, each with a bounded queue."""

    def __init__(self) -> None:
        self._queues: set[queue.Queue[dict[str, Any]]] = set()
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def opened(self) -> Iterator[queue.Queue[dict[str, Any]]]:
        """Yield a queue that gets each event while the context lasts."""
        made: queue.Queue[dict[str, Any]] = queue.Queue(_BACKLOG)
        with self._guard:
            self._queues.add(made)
        try:
            yield made
        finally:
            with self._guard:
                self._queues.discard(made)

    def put(self, event: dict[str, Any]) -> None:
        """Queue an event for each reader; one that is too slow misses it."""
        with self._guard:
            for each in self._queues:
                if not each.full():
                    each.put_nowait(event)


class WebOutlet:
    """Serve a bridge's view and events until close()."""

    def __init__(self, bridge: Bridge, host: str, port: int) -> None:
        """Bind the port. Raises OSError."""
        self._readers = Readers()
        names = {host, "localhost", "127.0.0.1", "[::1]"}
        self._server = _Server((host, port), names, Metrics(bridge), self._readers)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), daemon=True
        )
        self._thread.start()

    def on_change(self, name: str) -> None:
        """Do nothing: the view is read when it is asked for."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Pass an event to the readers."""
        self._readers.put(event)

    def close(self) -> None:
        """Close the port and end the readers' connections."""
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], names: set[str], metrics: Metrics, readers: Readers
    ) -> None:
        """names: that a request's Host header may have."""
        self.names = names
        self.metrics = metrics
        self.readers = readers
        self.stopping = threading.Event()
        self._free = threading.Semaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own, or close it above the limit."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

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

    def do_GET(self) -> None:
        """Answer /metrics and /events."""
        host = self.headers.get("Host", "localhost")
        if host.rpartition(":")[0] not in self.server.names and host not in self.server.names:
            self.send_error(421, "another host name")
        elif self.path == "/metrics":
            self._answer(_TEXT, self.server.metrics.render())
        elif self.path == "/events":
            self._stream()
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

    def _stream(self) -> None:
        with self.server.readers.opened() as events:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self._end_headers()
            self.wfile.write(b": open\n\n")
            while not self.server.stopping.is_set():
                try:
                    event = events.get(timeout=_KEEPALIVE_S)
                except queue.Empty:
                    self.wfile.write(b": \n\n")
                    continue
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
