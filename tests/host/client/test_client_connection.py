"""The client package's Connection against a server of the fleet's CA whose key is another one."""

import asyncio
import contextlib
import socket
import ssl
import threading
from dataclasses import replace

import pytest
from client_kit import content
from cryptography.hazmat.primitives import serialization
from host_kit import refused
from warden_client import credentials
from warden_client.connection import Connection
from warden_host.fleet import pki


class Impostor:
    """Takes one connection, and keeps what comes after the TLS handshake."""

    def __init__(self, folder) -> None:
        ca = pki.new_ca()
        self.ca = ca.certificate.public_bytes(serialization.Encoding.PEM).decode()
        leaf = ca.issue(("127.0.0.1",))
        self.pin = pki.pin(leaf.key)
        chain = folder / "chain.pem"
        chain.write_bytes(leaf.certificate_pem() + leaf.key_pem())
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.received = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Impostor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # where no client came
        self._thread.join(60)
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the client hangs up
            connection, _ = self._socket.accept()
            with self._context.wrap_socket(connection, server_side=True) as secure:
                self.received = secure.recv(1000)


@pytest.mark.parametrize("pinned", [False, True])
def test_the_log_in_goes_to_a_pinned_key_alone(tmp_path, pinned):
    async def scene(server):
        known = replace(
            credentials.parse(content()),
            port=server.port,
            ca=server.ca,
            pins=frozenset({server.pin if pinned else bytes(32)}),
        )
        made = Connection(known, print, print)
        try:
            await made.open()
        finally:
            await made.close()

    with Impostor(tmp_path) as server:
        with refused("unreachable" if pinned else "pin-mismatch"):
            asyncio.run(scene(server))
    assert (b"secret" in server.received) == pinned
    assert bool(server.received) == pinned
