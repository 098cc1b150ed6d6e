"""Simulate the network between the device and its broker: a forwarder, and impostor servers.

For the demo and for tests. Everything listens on 127.0.0.1, and ends with its `with` block.
"""

import contextlib
import random
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from warden_host.fleet.pki import Leaf

_LOCAL = "127.0.0.1"
_CHUNK = 65536
_PORTS = range(32000, 32768)  # of servers that can't choose their own


class Network:
    """Forward TCP from a port of its own.

    switch() sends later connections elsewhere and cuts the open ones.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server((_LOCAL, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "Network":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)
        self.cut()

    def switch(self, target: int) -> None:
        """Send later connections to this port, and cut the open ones."""
        self._target = target
        self.cut()

    def cut(self) -> None:
        """Cut the open connections."""
        with self._lock:
            for connection in self._open:
                _shut(connection)
            self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed: the demo is over
            try:
                far = socket.create_connection((_LOCAL, self._target), 5)
                far.settimeout(None)
            except OSError:
                near.close()  # no server there: the device sees a connection that ends
                continue
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        _shut(source)
        _shut(sink)
        with self._lock:
            self._open -= {source, sink}


class Impostor:
    """Play the broker with this certificate, over TLS.

    fooled: whether a client finished the handshake.
    """

    def __init__(self, leaf: Leaf) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The context reads keys from files only; the folder is private, and removed at once.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "leaf.pem"
            path.write_bytes(leaf.certificate_pem() + leaf.key_pem())
            self._context.load_cert_chain(path)
        self._listener = socket.create_server((_LOCAL, 0))
        self.port: int = self._listener.getsockname()[1]
        self.visits = 0
        self.fooled = False

    def __enter__(self) -> "Impostor":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            self.visits += 1
            connection.settimeout(5)
            with contextlib.suppress(OSError), connection:
                with self._context.wrap_socket(connection, server_side=True) as tls:
                    # In TLS 1.2 the server finishes after the client's last message: a device that
                    # refuses never gets here.
                    self.fooled = True
                    tls.recv(_CHUNK)


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 that were free a moment ago.

    They are below those that a system gives to connections (from 32768 on Linux): it could give
    one of those away before the broker starts.
    """
    with contextlib.ExitStack() as stack:
        return [_bound(stack) for _ in range(count)]


def _bound(stack: contextlib.ExitStack) -> int:
    for port in random.sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server((_LOCAL, port)))
            return port
    raise RuntimeError("no port of 127.0.0.1 is free")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder for a fleet, and remove it with its keys afterwards."""
    with tempfile.TemporaryDirectory(prefix="warden-demo-") as path:
        yield Path(path)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
