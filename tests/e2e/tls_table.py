"""A table of TLS servers, each made on the spot, and the error that a device must give to each.

make tls-table        connects a device to all of them, and writes docs/tls-servers.md anew
"""

import contextlib
import hashlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import server_kit
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from process_kit import PATIENCE_S
from server_kit import HOST, Handler, Key, certificate, context, hold, over_tls, server_hello
from warden_host.fleet import pki

PAGE = Path(__file__).parents[2] / "docs" / "tls-servers.md"
_BEGIN, _END = "<!-- written by `make tls-table` -->\n", "<!-- until here -->\n"
# Of peers that stall; all others have the time of a slow machine.
_SHORT_MS, _LONG_MS = 1000, 300000
_DAY = timedelta(days=1)

Chain = Sequence[x509.Certificate]


@dataclass
class Server:
    """A row of the table.

    shows: what kind of server it is. codes: of the errors that are right, "" for none. handler:
    serves one connection. pins, cas: of the device, by default the world's.
    """

    shows: str
    codes: tuple[str, ...]
    handler: Handler | None
    pins: Sequence[bytes] = ()
    cas: Sequence[bytes] = ()
    host: str = HOST
    stalls: bool = False


class Answer(NamedTuple):
    """What a device made of a server. code: "" where it connected. took: milliseconds."""

    code: str
    text: str
    took: int


def broker(connection: socket.socket) -> None:
    while True:
        server_kit.answer(connection, *server_kit.packet(connection))


def der(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.DER)


def with_sha1(made: x509.Certificate, signer: rsa.RSAPrivateKey) -> x509.Certificate:
    """Return the certificate signed by RSA with SHA-1, which the library refuses to make."""
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    body = made.tbs_certificate_bytes.replace(sha256, sha1)
    numbers = signer.private_numbers()
    size = signer.key_size // 8
    info = bytes.fromhex("3021300906052b0e03021a05000414")
    info += hashlib.sha1(body, usedforsecurity=False).digest()
    block = b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info  # RFC 8017 §9.2
    number = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n)
    whole = der(made).replace(sha256, sha1)
    return x509.load_der_x509_certificate(whole[:-size] + number.to_bytes(size, "big"))


class Table:
    """All rows. folder: for files that live a moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.servers: list[Server] = []
        self.root_key = pki.new_key()
        self.root = certificate(self.root_key, name="The device's CA", ca=True)
        self.key, self.backup = pki.new_key(), pki.new_key()
        self.leaf = self.issue(self.key)
        self.pins = [pki.pin(self.leaf), pki.pin(self.backup)]
        self.cas = [der(self.root)]
        self._rsa = rsa.generate_private_key(65537, 2048)
        self._right()
        self._chains()
        self._names_and_dates()
        self._signatures_and_keys()
        self._protocols()
        self._not_tls()
        self._cut_short()
        self._brokers()

    def issue(self, key: Key, **options: object) -> x509.Certificate:
        """Return a leaf under the device's CA."""
        return certificate(key, self.root, self.root_key, **options)  # type: ignore[arg-type]

    def add(
        self, shows: str, codes: str | tuple[str, ...], handler: Handler, **more: object
    ) -> None:
        codes = (codes,) if isinstance(codes, str) else codes
        self.servers.append(Server(shows, codes, handler, **more))  # type: ignore[arg-type]

    def chain(
        self, shows: str, codes: str | tuple[str, ...], chain: Chain, key: Key, **more: object
    ) -> None:
        """Add a good broker behind this chain; its leaf is pinned unless `pins` says otherwise."""
        more.setdefault("pins", [pki.pin(chain[0]), os.urandom(32)])
        self.add(shows, codes, over_tls(context(self._folder, chain, key), broker), **more)

    def good(self, handler: Handler = broker, ciphers: str = "", **options: object) -> Handler:
        """Return the right server, with another handler or settings of its TLS context."""
        made = context(self._folder, [self.leaf], self.key, ciphers)
        for name, value in options.items():
            setattr(made, name, value)
        return over_tls(made, handler)

    # -- rows ---------------------------------------------------------------------------------

    def _right(self) -> None:
        self.add("the right server: P-256, TLS 1.2", "", self.good())
        self.add(
            "the same, TLS 1.3 offered as well",
            "",
            self.good(maximum_version=ssl.TLSVersion.TLSv1_3),
        )
        self.add("the same, by a name in place of an address", "", self._named(), host="localhost")
        leaf = self.issue(self.backup)
        self.chain(
            "the backup key, pinned from the start", "", [leaf], self.backup, pins=self.pins
        )
        for key, shows in (
            (self._rsa, "an RSA key of 2,048 bits"),
            (rsa.generate_private_key(65537, 3072), "an RSA key of 3,072 bits"),
            (ec.generate_private_key(ec.SECP384R1()), "a key on P-384"),
        ):
            self.chain(shows, "", [self.issue(key)], key)
        for kilobytes in (4, 15):
            leaf = self.issue(self.key, filler=kilobytes << 10)
            self.chain(f"a certificate of {kilobytes} KB", "", [leaf], self.key)

    def _named(self) -> Handler:
        leaf = self.issue(self.key, names=("localhost",))
        return over_tls(context(self._folder, [leaf], self.key), broker)

    def _chains(self) -> None:
        untrusted = "certificate-untrusted"
        self.chain("self-signed", untrusted, [certificate(self.backup)], self.backup)
        own = certificate(self.key)
        self.chain("self-signed, with the pinned key", untrusted, [own], self.key)
        other_key = pki.new_key()
        other = certificate(other_key, name="Another CA", ca=True)
        leaf = certificate(self.key, other, other_key)
        self.chain("a foreign CA", untrusted, [leaf, other], self.key)
        self.chain("a foreign CA, not shown", untrusted, [leaf], self.key)
        self.chain(
            "a foreign CA, the right one shown in its place",
            untrusted,
            [leaf, self.root],
            self.key,
        )
        twin = certificate(other_key, name="The device's CA", ca=True)
        leaf = certificate(self.key, twin, other_key)
        self.chain("a foreign CA of the right one's name", untrusted, [leaf, twin], self.key)
        forged = certificate(self.backup, self.root, self.backup)
        self.chain(
            "a leaf that the right CA did not sign", untrusted, [forged, self.root], self.backup
        )

        wrong = self.issue(other_key)
        self.chain(
            "another key under the right CA", "pin-mismatch", [wrong], other_key, pins=self.pins
        )
        pins = [pki.pin(self.root), os.urandom(32)]
        self.chain("the pin is the CA's", "pin-mismatch", [wrong, self.root], other_key, pins=pins)

        middle_key = pki.new_key()
        middle = certificate(middle_key, self.root, self.root_key, name="middle", ca=True)
        leaf = certificate(self.key, middle, middle_key)
        self.chain("an intermediate CA", "", [leaf, middle], self.key)
        self.chain("an intermediate CA that is missing", untrusted, [leaf], self.key)
        pins = [pki.pin(middle), os.urandom(32)]
        self.chain(
            "the pin is the intermediate's", "pin-mismatch", [leaf, middle], self.key, pins=pins
        )
        below = certificate(self.backup, leaf, self.key, name="below")
        self.chain(
            "a leaf used as a CA",
            (untrusted, "pin-mismatch"),
            [below, leaf, middle],
            self.backup,
            pins=[pki.pin(leaf), os.urandom(32)],
        )
        self.chain("a chain of 6", "", *self._long_chain(6))
        self.chain("a chain of 7", "certificate-malformed", *self._long_chain(7))

    def _long_chain(self, length: int) -> tuple[Chain, Key]:
        """Return a chain without its root, and the leaf's key. length: the root counts."""
        last, key, chain = self.root, self.root_key, []
        for depth in range(length - 1):
            fresh = pki.new_key()
            last = certificate(fresh, last, key, name=f"n{depth}", ca=depth < length - 2)
            key = fresh
            chain.insert(0, last)
        return chain, key

    def _names_and_dates(self) -> None:
        for names, shows in (
            (("127.0.0.2",), "another address"),
            (("localhost",), "a name, where the device has an address"),
            (("127.0.0.1.example",), "the address as a part of a name"),
        ):
            leaf = self.issue(self.key, names=names)
            self.chain(f"a certificate for {shows}", "certificate-name", [leaf], self.key)
        leaf = self.issue(self.key, names=(), name=HOST)
        self.chain("the address as common name, and no other name", "", [leaf], self.key)
        now = datetime.now(UTC)
        late = self.issue(self.key, not_after=now - _DAY)
        self.chain("expired", "certificate-expired", [late], self.key)
        early = self.issue(self.key, not_before=now + _DAY)
        self.chain("not yet valid", "certificate-not-yet-valid", [early], self.key)
        middle_key = pki.new_key()
        middle = certificate(
            middle_key, self.root, self.root_key, name="old", ca=True, not_after=now - _DAY
        )
        leaf = certificate(self.key, middle, middle_key)
        self.chain(
            "an intermediate CA that expired", "certificate-expired", [leaf, middle], self.key
        )

    def _signatures_and_keys(self) -> None:
        unsupported = "certificate-unsupported"
        edwards = ed25519.Ed25519PrivateKey.generate()
        for issuer, shows, pss in (
            (self._rsa, "signed with RSA-PSS", True),
            (edwards, "signed with Ed25519", False),
        ):
            root = certificate(issuer, name="root", ca=True)
            leaf = certificate(self.key, root, issuer, pss=pss)
            self.chain(shows, unsupported, [leaf], self.key, cas=[der(root)])
        root = certificate(edwards, name="root", ca=True)
        leaf = certificate(self.key, root, edwards)
        self.chain("signed with Ed25519, by a foreign CA", unsupported, [leaf], self.key)
        root = certificate(self._rsa, name="root", ca=True)
        leaf = with_sha1(certificate(self.key, root, self._rsa), self._rsa)
        made = context(self._folder, [leaf], self.key, "ALL:@SECLEVEL=0")
        pins = [pki.pin(leaf), os.urandom(32)]
        served = over_tls(made, broker)
        self.add("signed with SHA-1", unsupported, served, pins=pins, cas=[der(root)])
        short = rsa.generate_private_key(65537, 1024)  # noqa: S505  (what is to be refused)
        weak = context(self._folder, [self.issue(short)], short, "ALL:@SECLEVEL=0")
        pins = [pki.pin(self.issue(short)), os.urandom(32)]
        self.add("an RSA key of 1,024 bits", unsupported, over_tls(weak, broker), pins=pins)
        key = ec.generate_private_key(ec.SECP521R1())
        self.chain("a key on P-521", ("", "tls-failed"), [self.issue(key)], key)
        client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        leaf = self.issue(self.key, extension=(client, False))
        self.chain("a certificate for clients only", unsupported, [leaf], self.key)
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), b"\5\0")
        leaf = self.issue(self.key, extension=(unknown, True))
        self.chain("a critical extension that is unknown", unsupported, [leaf], self.key)
        leaf = self.issue(self.key, filler=17 << 10)
        self.chain("a certificate of 17 KB", "certificate-too-large", [leaf], self.key)

    def _protocols(self) -> None:
        old = ssl.TLSVersion.TLSv1_1
        self.add(
            "TLS 1.1 alone",
            "tls-failed",
            self.good(ciphers="ALL:@SECLEVEL=0", minimum_version=old, maximum_version=old),
        )
        new = ssl.TLSVersion.TLSv1_3
        self.add(
            "TLS 1.3 alone", "tls-failed", self.good(maximum_version=new, minimum_version=new)
        )
        leaf = self.issue(self._rsa)
        pins = [pki.pin(leaf), os.urandom(32)]
        for shows, ciphers in (
            ("key exchange by RSA", "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA"),
            ("key exchange by DHE", "DHE-RSA-AES128-GCM-SHA256"),
            ("ciphers in CBC mode", "ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES128-SHA"),
        ):
            made = context(self._folder, [leaf], self._rsa, ciphers + ":@SECLEVEL=0")
            self.add(f"{shows} alone", "tls-failed", over_tls(made, broker), pins=pins)
        asks = context(self._folder, [self.leaf], self.key)
        asks.verify_mode = ssl.CERT_REQUIRED
        codes = ("link-closed", "tls-failed")
        self.add(
            "a client certificate demanded, of a device without", codes, over_tls(asks, broker)
        )
        self.add(
            "the right certificate without its key",
            "tls-failed",
            server_kit.impostor(self.leaf),
        )
        for name in ("HANDSHAKE_FAILURE", "PROTOCOL_VERSION", "INSUFFICIENT_SECURITY"):
            self._alert(name, "tls-failed")
        for name in ("DECODE_ERROR", "UNRECOGNIZED_NAME", "ILLEGAL_PARAMETER"):
            self._alert(name, "tls-address")

    def _alert(self, name: str, code: str) -> None:
        number = int(getattr(ssl, "ALERT_DESCRIPTION_" + name))
        made = context(self._folder, [self.leaf], self.key)
        made.sni_callback = lambda *_: number
        words = name.lower().replace("_", " ")
        self.add(
            f"the alert “{words}” to a server name that is an address",
            code,
            over_tls(made, broker),
        )

    def _not_tls(self) -> None:
        for shows, code, data in (
            ("a web server, or a captive portal", "no-tls", b"HTTP/1.1 302 Found\r\n\r\n"),
            ("MQTT without TLS", "no-tls", b"\x20\x02\0\0" + bytes(8)),
            ("SSH", "no-tls", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
            ("random bytes", "no-tls", b"\xff" * 4096),
            ("a record of 64 KB", "certificate-too-large", b"\x16\x03\x03\xff\xff" + bytes(99)),
            (
                "a server hello of 16 MB",
                ("certificate-too-large", "tls-failed"),
                b"\x16\x03\x03\0\4\2\xff\xff\xff" + bytes(100),
            ),
        ):
            self.add(shows, code, self._says(data))

    def _says(self, data: bytes) -> Handler:
        def handle(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(data)
            hold(connection)

        return handle

    def _cut_short(self) -> None:
        def reset(connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def after(data: bytes, wait: bool = False) -> Handler:
            def handle(connection: socket.socket) -> None:
                connection.recv(4096)
                connection.sendall(data)
                if wait:
                    hold(connection)

            return handle

        def dribble(connection: socket.socket) -> None:
            connection.recv(4096)
            # More bytes than a slow device waits for: it hangs up, and not this server.
            for byte in server_kit.handshake(2, os.urandom(16000)):
                connection.sendall(bytes((byte,)))
                time.sleep(0.2)

        self.servers.append(Server("no listener", ("unreachable",), None))
        self.add("a close at once", "link-closed", lambda _: None)
        self.add("a reset at once", ("link-closed", "unreachable"), reset)
        shown = server_kit.shown(self.leaf)
        for where, data in (
            ("the client hello", b""),
            ("half of the server hello", server_hello()[:20]),
            ("the server hello", server_hello()),
            ("half of the certificate", shown[:-100]),
            ("the certificate", shown),
        ):
            self.add(f"a close after {where}", "link-closed", after(data))
        self.add("silence", "link-timeout", hold, stalls=True)
        self.add("silence after the certificate", "link-timeout", after(shown, True), stalls=True)
        self.add("a byte now and then", "link-timeout", dribble, stalls=True)

    def _brokers(self) -> None:
        def connack(code: int) -> Handler:
            def handle(connection: socket.socket) -> None:
                server_kit.packet(connection)
                connection.sendall(bytes((0x20, 2, 0, code)))
                hold(connection)

            return handle

        for code, words in (
            (1, "MQTT 3.1.1 is not spoken"),
            (2, "the client ID is refused"),
            (4, "wrong user name or password"),
            (5, "not authorized"),
        ):
            self.add(f"CONNACK {code}: {words}", "mqtt-refused", self.good(connack(code)))
        self.add("CONNACK 3: server unavailable", "mqtt-unavailable", self.good(connack(3)))
        self.add(
            "a web server behind the right TLS",
            "mqtt-malformed",
            self.good(self._says(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        )
        self.add("a close in place of CONNACK", "link-closed", self.good(server_kit.packet))
        self.add("silence in place of CONNACK", "link-timeout", self.good(hold), stalls=True)

    # -- the device ---------------------------------------------------------------------------

    def connect(self, micropython: str, lib: Path, umqtt: Path) -> list[Answer]:
        """Return the device's answer to each server."""
        with contextlib.ExitStack() as stack:
            config = {
                "lib": str(lib),
                "umqtt": str(umqtt),
                "servers": [self._target(server, stack) for server in self.servers],
            }
            path = self._folder / "servers.json"
            path.write_text(json.dumps(config))
            script = Path(__file__).parent / "device" / "try_servers.py"
            done = subprocess.run(
                [micropython, "-X", "heapsize=4m", str(script), str(path)],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        assert done.returncode == 0, done.stdout + done.stderr
        return [Answer(*answer) for answer in json.loads(done.stdout.splitlines()[-1])]

    def _target(self, server: Server, stack: contextlib.ExitStack) -> dict[str, object]:
        if server.handler is None:
            # Bound, so that no other server gets the port, and not listening: it is refused.
            taken = stack.enter_context(socket.socket())
            taken.bind((HOST, 0))
            port = taken.getsockname()[1]
        else:
            port = stack.enter_context(server_kit.listening(server.handler))
        return {
            "host": server.host,
            "port": port,
            "cas": [one.hex() for one in server.cas or self.cas],
            "pins": [one.hex() for one in server.pins or self.pins],
            "handshake_ms": _SHORT_MS if server.stalls else _LONG_MS,
        }


def wrong(table: Table, answers: Sequence[Answer]) -> Iterator[str]:
    """Yield a line for each server that got another error than it must."""
    for server, (code, text, took) in zip(table.servers, answers, strict=True):
        if code not in server.codes:
            wanted = " or ".join(server.codes) or "accepted"
            yield f"{server.shows}: {code or 'accepted'} after {took} ms ({text}), not {wanted}"


def rendered(table: Table) -> str:
    """Return the table for the page."""
    lines = ["| server | the device |", "|---|---|"]
    for server in table.servers:
        told = " or ".join(f"`{code}`" if code else "connects" for code in server.codes)
        lines.append(f"| {server.shows} | {told} |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """Return the table that the page has."""
    return PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]


def main() -> int:
    """Connect to all servers; write the page, or name what is wrong."""
    from warden_host.fleet import device_tree

    tree = device_tree.tree()
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder))
        found = list(
            wrong(table, table.connect(device_tree.micropython(), tree.root / "lib", _umqtt()))
        )
    for line in found:
        sys.stdout.write(line + "\n")
    if not found:
        head, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(head + _BEGIN + rendered(table) + _END + rest.partition(_END)[2])
        sys.stdout.write(f"{len(table.servers)} servers, each with the error it must give\n")
    return 1 if found else 0


def _umqtt() -> Path:
    from warden_host.fleet import device_tree

    return device_tree.umqtt().parent


if __name__ == "__main__":
    sys.exit(main())
