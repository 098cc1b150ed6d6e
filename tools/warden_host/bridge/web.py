"""The bridge's pages: /metrics for Prometheus, /events as server-sent events."""

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from warden_host.bridge.bridge import Bridge
from warden_host.bridge.metrics import metrics_page
from warden_host.metrics.web import PageServer

_BACKLOG = 1000  # events that a slow reader may be behind
_KEEPALIVE_S = 15.0


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

    def stream(self, write: Callable[[bytes], object], stopping: threading.Event) -> None:
        """Write each event as a server-sent one, until `stopping` is set."""
        with self.opened() as events:
            write(b": open\n\n")
            while not stopping.is_set():
                try:
                    event = events.get(timeout=_KEEPALIVE_S)
                except queue.Empty:
                    write(b": \n\n")
                    continue
                write(b"data: " + json.dumps(event).encode() + b"\n\n")


class WebOutlet:
    """Serve a bridge's view and events until close()."""

    def __init__(self, bridge: Bridge, host: str, port: int) -> None:
        """Bind the port. Raises OSError."""
        self._readers = Readers()
        pages = {"/metrics": metrics_page(bridge).render}
        self._server = PageServer(host, port, pages, {"/events": self._readers.stream})
        self.port = self._server.port

    def on_change(self, name: str) -> None:
        """Do nothing: the view is read when it is asked for."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Pass an event to the readers."""
        self._readers.put(event)

    def close(self) -> None:
        """Close the port and end the readers' connections."""
        self._server.close()
