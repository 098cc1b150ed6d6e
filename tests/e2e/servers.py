"""Servers that a device may meet: on 127.0.0.1, a port of the system's choice, one thread, stopped by handle."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Handler = Callable[[socket.socket], None]
HOST = "127.0.0.1"
# No server waits longer for a device: its thread must end in any case.
PATIENCE_S = 30.0


@contextlib.contextmanager
def listening(handler: Handler, port: int = 0) -> Iterator[int]:
    """The port where each connection is given to handler, one after the other."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((HOST, port))
    server.listen(8)
    stopping = threading.Event()
    current: list[socket.socket] = []

    def serve() -> None:
        while not stopping.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            # TLS takes the socket over: this second name of it is what can still end it.
            with connection.dup() as end:
                current[:] = [end]
                # A device that refuses us hangs up: that's an error here, and what the test wants.
                with connection, contextlib.suppress(OSError):
                    handler(connection)
                current.clear()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        stopping.set()
        for each in (server, *current):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(PATIENCE_S + 5)
        assert not thread.is_alive()


def over_tls(context: ssl.SSLContext, handler: Handler) -> Handler:
    """The handler behind a hand-shake."""

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            handler(secure)

    return handle


def context(
    folder: Path, chain: Sequence[x509.Certificate], key: Key, ciphers: str = ""
) -> ssl.SSLContext:
    """TLS 1.2 as our own broker speaks it, unless the test says otherwise."""
    pem = folder / f"chain{os.urandom(4).hex()}.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
    )
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    if ciphers:
        made.set_ciphers(ciphers)
    made.load_cert_chain(pem)
    pem.unlink()
    return made


def certificate(
    key: Key,
    issuer: x509.Certificate | None = None,
    issuer_key: Key | None = None,
    *,
    name: str = "server",
    ca: bool = False,
    filler: int = 0,
    not_before: datetime | None = None,
) -> x509.Certificate:
    """A certificate of any kind; self-signed without an issuer. filler: bytes of an extension nobody knows."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        names = x509.SubjectAlternativeName([x509.IPAddress(_address(HOST))])
        builder = builder.add_extension(names, critical=False)
    if filler:
        unknown = x509.UnrecognizedExtension(
            x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(filler)
        )
        builder = builder.add_extension(unknown, critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256())


def _address(host: str) -> "x509.general_name.ipaddress.IPv4Address":
    import ipaddress

    return ipaddress.IPv4Address(host)


# -- MQTT, as much as a test's server needs -----------------------------------------------------------


def exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("it ended")
        data += part
    return bytes(data)


def packet(connection: socket.socket) -> tuple[int, bytes]:
    """The first byte and the body of one MQTT packet."""
    first = exactly(connection, 1)[0]
    length = shift = 0
    while True:
        byte = exactly(connection, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first, exactly(connection, length)


def fields(body: bytes) -> list[bytes]:
    """The length-prefixed fields of a CONNECT behind its fixed part."""
    found, at = [], 10
    while at < len(body):
        size = int.from_bytes(body[at : at + 2], "big")
        found.append(body[at + 2 : at + 2 + size])
        assert len(found[-1]) == size
        at += 2 + size
    return found


def answer(connection: socket.socket, first: int, body: bytes) -> None:
    """What a good broker answers to this packet."""
    if first == 0x10:
        connection.sendall(b"\x20\x02\0\0")
    elif first == 0x82:
        connection.sendall(b"\x90\x03" + body[:2] + body[-1:])
    elif first & 0xF6 == 0x32:
        topic = int.from_bytes(body[:2], "big")
        connection.sendall(b"\x40\x02" + body[2 + topic : 4 + topic])
    elif first == 0xC0:
        connection.sendall(b"\xd0\0")


def log_in(connection: socket.socket) -> bytes:
    """Take the CONNECT and accept it; its body."""
    first, body = packet(connection)
    assert first == 0x10
    answer(connection, first, body)
    return body


def hold(connection: socket.socket) -> None:
    """Say nothing until the device hangs up."""
    while connection.recv(4096):
        pass
