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
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_client import connection, credentials
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
        self._thread.join(PATIENCE_S)
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


def opened(**changes) -> None:
    """Open a connection under the file of client_kit with these changes."""

    async def scene():
        made = Connection(replace(credentials.parse(content()), **changes), print, print)
        try:
            await made.open()
        finally:
            await made.close()

    asyncio.run(scene())


CA = pki.new_ca().certificate.public_bytes(serialization.Encoding.PEM).decode()


def test_a_server_of_another_ca_gets_no_log_in(tmp_path):
    with Impostor(tmp_path) as server:
        with refused("certificate-untrusted"):
            opened(port=server.port, ca=CA, pins=frozenset({server.pin}))
    assert server.received == b""


def test_a_ca_that_is_none():
    for ca in ("", "no PEM", CA.replace("M", "N", 20)):
        with refused("key-damaged"):
            opened(ca=ca)


def test_a_broker_that_is_silent(monkeypatch):
    monkeypatch.setattr(connection, "_UP_S", 0.2)

    async def scene():
        server = socket.create_server(("127.0.0.1", 0))
        port = server.getsockname()[1]
        made = Connection(replace(credentials.parse(content()), port=port, ca=CA), print, print)
        try:
            with refused("timed-out"):
                await made.open()
        finally:
            server.close()  # else the thread waits for its handshake
            await made.close()

    asyncio.run(scene())


def test_a_broker_that_is_not_there():
    (port,) = free_ports(1)
    with refused("unreachable"):
        opened(port=port, ca=CA)


class Sent:
    """A message as paho has it. topic: its bytes."""

    retain = False

    def __init__(self, topic: bytes, payload: bytes) -> None:
        self._topic, self.payload = topic, payload

    @property
    def topic(self) -> str:
        return self._topic.decode()


class Refused:
    is_failure = True


def test_what_comes_is_bounded_before_it_is_kept(monkeypatch):
    monkeypatch.setattr(connection, "_INBOX", 3)

    async def scene():
        taken = []
        made = Connection(replace(credentials.parse(content()), ca=CA), taken.append, print)
        for topic, payload in (
            (b"\xff", b"x"),
            (b"t" * (connection.TOPIC_LIMIT + 1), b"x"),
            (b"t", bytes(connection.MAX_BYTES + 1)),
            (b"t" * connection.TOPIC_LIMIT, bytes(connection.MAX_BYTES)),
            *[(b"t", b"x")] * 4,
        ):
            made._receive(None, None, Sent(topic, payload))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [len(one.topic) for one in taken] == [connection.TOPIC_LIMIT, 1, 1]
        assert made.dropped == 2

    asyncio.run(scene())


def test_a_log_in_or_a_subscription_that_is_refused():
    async def scene():
        for refuse in (
            lambda made: made._on_connect(None, None, None, Refused(), None),  # and asks no more
            lambda made: made._on_subscribe(None, None, 1, [Refused()], None),
        ):
            made = Connection(replace(credentials.parse(content()), ca=CA), print, print)
            refuse(made)
            with refused("broker-refused"):
                await made._up

    asyncio.run(scene())


def test_nothing_is_published_on_a_connection_that_ended():
    class Client:
        rc = 0

        def publish(self, *_, **__):
            return self

    async def scene():
        made = Connection(replace(credentials.parse(content()), ca=CA), print, print)
        made._client = Client()
        assert made.publish("t", b"")
        made._client.rc = 4
        assert not made.publish("t", b"")
        made._client.rc = 0
        made._closed = True
        assert not made.publish("t", b"")

    asyncio.run(scene())
