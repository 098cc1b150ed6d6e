"""Servers that a device may meet: on 127.0.0.1, a port of the system's choice, one thread, stopped
by handle."""

import contextlib
import ipaddress
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Handler = Callable[[socket.socket], None]
HOST = "127.0.0.1"
# No server waits longer for a device: its thread must end in any case.
PATIENCE_S = 300.0


@contextlib.contextmanager
def listening(handler: Handler, port: int = 0, side_by_side: bool = False) -> Iterator[int]:
    """The port where each connection is given to handler, one after the other, or side by side: a
    board that was reset leaves its connection open, and makes another."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((HOST, port))
    server.listen(8)
    stopping = threading.Event()
    current: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def give(connection: socket.socket) -> None:
        # TLS takes the socket over: this second name of it is what can still end it.
        with connection.dup() as end:
            current.append(end)
            # A device that refuses us hangs up: that's an error here, and what the test wants.
            with connection, contextlib.suppress(OSError):
                if not stopping.is_set():  # or it began before the end, and is ended by that
                    handler(connection)
            current.remove(end)

    def serve() -> None:
        while not stopping.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            if side_by_side:
                threads.append(threading.Thread(target=give, args=(connection,), daemon=True))
                threads[-1].start()
            else:
                give(connection)

    threads.append(threading.Thread(target=serve, daemon=True))
    threads[0].start()
    try:
        yield server.getsockname()[1]
    finally:
        stopping.set()
        for each in (server, *current):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        server.close()
        for thread in threads:
            thread.join(PATIENCE_S + 5)
            assert not thread.is_alive()


def over_tls(context: ssl.SSLContext, handler: Handler) -> Handler:
    """The handler behind a hand-shake."""

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            handler(secure)

    return handle


class Valve:
    """The handler in front of another server: it passes so many bytes of that one on as were
    allowed, and keeps the rest back. So a transfer stands still in the middle for as long as a
    test wants."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._left = 0
        self._hand, self._felt = socket.socketpair()

    def allow(self, count: int) -> None:
        self._hand.sendall(count.to_bytes(4, "big"))

    def __call__(self, near: socket.socket) -> None:
        with socket.create_connection((HOST, self._port)) as far:
            while True:
                ends = [near, self._felt, *([far] if self._left else [])]
                for ready in select.select(ends, [], [])[0]:
                    if ready is self._felt:
                        self._left += int.from_bytes(exactly(ready, 4), "big")
                        continue
                    data = ready.recv(min(self._left, 65536) if ready is far else 65536)
                    if not data:
                        return
                    if ready is far:
                        self._left -= len(data)
                    (far if ready is near else near).sendall(data)

    def close(self) -> None:
        self._hand.close()
        self._felt.close()


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
    not_after: datetime | None = None,
    pss: bool = False,
    names: Sequence[str] = (HOST,),
    extension: tuple[x509.ExtensionType, bool] | None = None,
) -> x509.Certificate:
    """A certificate of any kind; self-signed without an issuer. filler: bytes of an extension
    no client knows. pss: signed with RSA-PSS. names: hosts and addresses that it is for.
    extension: a further one, and whether it is critical."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(not_after or datetime.now(UTC) + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca and names:
        shown = x509.SubjectAlternativeName([_general_name(one) for one in names])
        builder = builder.add_extension(shown, critical=False)
    if extension is not None:
        builder = builder.add_extension(extension[0], critical=extension[1])
    if filler:
        unknown = x509.UnrecognizedExtension(
            x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(filler)
        )
        builder = builder.add_extension(unknown, critical=False)
    signer = issuer_key or key
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        return builder.sign(signer, None)
    digest = hashes.SHA256()
    form = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH) if pss else None
    return builder.sign(signer, digest, rsa_padding=form)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


# -- TLS by hand ----------------------------------------------------------------------------------


def record(kind: int, body: bytes) -> bytes:
    return bytes((kind, 3, 3)) + struct.pack("!H", len(body)) + body


def handshake(kind: int, body: bytes) -> bytes:
    return record(22, bytes((kind,)) + struct.pack("!I", len(body))[1:] + body)


def server_hello() -> bytes:
    # TLS 1.2, no session, ECDHE-ECDSA-AES128-GCM-SHA256, uncompressed points.
    return handshake(
        2, b"\x03\x03" + os.urandom(32) + b"\0\xc0\x2b\0" + b"\0\x06\0\x0b\0\x02\x01\0"
    )


def shown(certificate_: x509.Certificate) -> bytes:
    """A server's first flight up to its certificate, for which it needs no key."""
    der = certificate_.public_bytes(serialization.Encoding.DER)
    size = struct.pack("!I", len(der))[1:]
    total = struct.pack("!I", len(der) + 3)[1:]
    return server_hello() + handshake(11, total + size + der)


def impostor(certificate_: x509.Certificate) -> Handler:
    """A server that shows a certificate, which is public, and has not its key: only its signature
    is wrong."""
    curve = ec.SECP256R1()
    share = ec.generate_private_key(curve).public_key()
    point = share.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    signature = ec.generate_private_key(curve).sign(b"no hand-shake", ec.ECDSA(hashes.SHA256()))
    exchange = b"\x03\0\x17\x41" + point + b"\x04\x03" + struct.pack("!H", len(signature))

    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(shown(certificate_) + handshake(12, exchange + signature))
        connection.sendall(handshake(14, b""))
        hold(connection)

    return handle


# -- MQTT, as much as a test's server needs -------------------------------------------------------


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
