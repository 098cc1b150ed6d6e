"""One pinned TLS connection that never holds the event loop.

The socket is non-blocking from the start, the hand-shake runs inside the first write, and every wait sits on the raw socket under one
deadline: a peer that dribbles bytes stretches nothing, and nothing polls the TLS socket (its poll is busy: docs/threat-model.md).

What is checked: the chain up to our own CAs, the name and the dates (by the TLS stack, CERT_REQUIRED), forward secrecy (cipher suites),
and that the leaf's public key is one of our pins (by the callback, at depth 0 only: a forged chain may carry the real CA at depth 1).
"""

import asyncio
import errno
import time

from micropython import const

from .errors import PeerError, ensure
from .wire import x509

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Generator

    from .clock import Clock

# ECDHE only, so that a key stolen later opens no recording; AEAD only. Without a list, a server with an RSA certificate gets
# key exchange without forward secrecy.
_CIPHERS = const(
    (
        "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
        "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
        "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",
        "TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384",
    )
)
_MAX_CERTIFICATE = const(4096)
_MAX_CHAIN = const(6)
_RETRY_MS = const(250)
# ECONNRESET on unix, lwIP and ESP-IDF; EPIPE; MBEDTLS_ERR_SSL_CONN_EOF; and 0 or -1 where a port says no more.
_CLOSED = const((104, 54, 32, 103, 113, 128, -29312, 0, -1))
# Refused, no route, no network: a connect that does not wait tells it at the first write only.
_UNREACHABLE = const((111, 101, 114, 118))
_VERIFY_FAILED = const(
    -9984
)  # MBEDTLS_ERR_X509_CERT_VERIFY_FAILED, where the stack gives no words with it


class Trust:
    """Whom this device believes. cas: list of CA certificates, DER bytes. pins: SHA-256 of SubjectPublicKeyInfo, 32 bytes each, two at least."""

    def __init__(self, cas: "list[bytes]", pins: "list[bytes]") -> None:
        ensure(len(cas) > 0, "bad-argument", "no CA: a server can't be checked without one")
        # A single pin is a device that is lost when the server's key is.
        ensure(len(pins) >= 2, "bad-argument", "a live pin and a backup pin are needed")
        for pin in pins:
            ensure(len(pin) == 32, "bad-argument", "a pin is a SHA-256 digest, 32 bytes")
        self.cas = cas
        self.pins = pins


class Verifier:
    """The hand-shake's certificate callback. It never raises (that leaks 2 KB a failure inside the firmware); `refusal` keeps the reason."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._anchored = False
        self.seen = 0
        self.pinned = 0
        self.not_before = 0
        self.not_after = (1 << 62) - 1
        self.refusal = ""
        self.leaf = b""  # the pin that matched

    def __call__(self, data: memoryview, depth: int) -> int:
        """0 to go on, 1 to refuse. Called from the chain's root down to the leaf at depth 0."""
        if not self.refusal:
            self.refusal = self._check(data, depth)
        return 1 if self.refusal else 0

    def _check(self, data: memoryview, depth: int) -> str:
        self.seen += 1
        if len(data) > _MAX_CERTIFICATE or self.seen > _MAX_CHAIN:
            return "certificate-malformed"
        try:
            certificate = bytes(data)  # the view points into the C stack
            _, not_before, not_after = x509.fields(certificate)
            self.not_before = max(self.not_before, not_before)
            self.not_after = min(self.not_after, not_after)
            if certificate in self._trust.cas:
                self._anchored = True
            if depth:
                return ""
            if not self._anchored:
                return "certificate-untrusted"
            self.leaf = x509.spki_pin(certificate)
            if self.leaf not in self._trust.pins:
                return "pin-mismatch"
        except PeerError as error:
            return error.code
        except MemoryError:
            return "tls-failed"
        self.pinned += 1
        return "" if self.pinned == 1 else "pin-mismatch"

    def explain(self, error: Exception, now: int) -> str:
        """Why the hand-shake failed with this error of the TLS stack or the socket, at the clock's time `now`."""
        if self.refusal:
            return self.refusal
        if isinstance(error, OSError) and error.errno != _VERIFY_FAILED:
            # Whatever certificate was shown: a line that fell, or a peer that has not its key, says nothing against the certificate.
            if error.errno in _UNREACHABLE:
                return "unreachable"
            return "link-closed" if error.errno in _CLOSED else "tls-failed"
        if not self.seen:
            return "tls-failed"
        # The stack says all that is wrong: dates of a certificate that nobody signed say nothing.
        if not self.pinned or "signed" in str(error):
            return "certificate-untrusted"
        if now < self.not_before:
            return "certificate-not-yet-valid"
        if now > self.not_after:
            return "certificate-expired"
        # The callback is shown our CA above a leaf that it did not sign, too: the stack's words tell that from a wrong name (CN).
        return "certificate-name" if "CN" in str(error) else "certificate-untrusted"


def _ready(raw: "Any", writable: bool) -> "Generator[None, None, None]":
    # What asyncio's own streams wait by; they would take 2 KB more, and hold a second buffer.
    queue = asyncio.core._io_queue  # type: ignore[attr-defined]  # the stubs leave it out
    yield queue.queue_write(raw) if writable else queue.queue_read(raw)


class Link:
    """One connection: connect() once, then send() and receive_into(), then close()."""

    def __init__(self, trust: Trust, clock: "Clock", stall_ms: int) -> None:
        self._trust = trust
        self._clock = clock
        self._stall_ms = stall_ms
        self._raw: "Any" = None
        self._tls: "Any" = None
        self.verifier: "Verifier | None" = None

    async def connect(self, host: str, port: int, first: bytes, deadline_ms: int) -> None:
        """Connect, shake hands, and have `first` (at least one byte) on its way, all within deadline_ms.

        PeerError: unreachable, link-timeout, link-closed, tls-failed, certificate-…, pin-mismatch. Where the pin matches and only the
        dates are wrong, by a clock that nobody proved in this boot, the hand-shake is tried once more: at the certificate's beginning
        where that lies ahead, at the clock's marks where the certificate has expired (an unproven clock may stand years ahead).
        """
        ensure(
            len(first) > 0,
            "bad-argument",
            "the first write completes the hand-shake: it can't be empty",
        )
        start = time.ticks_ms()
        try:
            await self._attempt(host, port, first, start, deadline_ms)
            return
        except PeerError as error:
            verifier = self.verifier
            if verifier is None:
                raise
            if error.code == "certificate-not-yet-valid":
                tentative = verifier.not_before + 1
            elif error.code == "certificate-expired":
                tentative = self._clock.least()
            else:
                raise
            if not self._clock.try_at(tentative):
                raise
        try:
            await self._attempt(host, port, first, start, deadline_ms)
        except BaseException:  # also when the task is cancelled: an unproven time must not stay
            self._clock.undo()
            raise

    async def _attempt(
        self, host: str, port: int, first: bytes, start: int, deadline_ms: int
    ) -> None:
        import socket

        import tls

        self.close()
        verifier = self.verifier = Verifier(self._trust)
        try:
            place = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
            self._raw = socket.socket(*place[:3])
            self._raw.setblocking(False)
            try:
                self._raw.connect(place[-1])
            except OSError as error:
                if error.errno != errno.EINPROGRESS:
                    raise
            if not await self._wait(True, _left(start, deadline_ms)):
                raise PeerError("link-timeout")
        except OSError as error:
            self.close()
            raise PeerError("unreachable", "no connection to the server (errno %s)" % error.errno)
        except PeerError:
            self.close()
            raise
        try:
            # A fresh context each time: nothing of an earlier connection (sessions, callbacks) can leak into this one.
            context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
            context.verify_mode = tls.CERT_REQUIRED
            context.set_ciphers(_CIPHERS)
            context.verify_callback = verifier
            for ca in self._trust.cas:
                context.load_verify_locations(ca)
            self._tls = context.wrap_socket(
                self._raw, server_hostname=host, do_handshake_on_connect=False
            )
            await self._write(first, start, deadline_ms)
            if verifier.pinned != 1:
                # The callback was not asked: a firmware that ignores it would leave us without pins.
                raise PeerError("pin-mismatch")
        except PeerError as error:
            self.close()
            raise error
        except (OSError, ValueError) as error:
            self.close()
            raise PeerError(verifier.explain(error, self._clock.now()), "the hand-shake failed")

    async def _write(
        self, data: "bytes | bytearray | memoryview", start: int, deadline_ms: int
    ) -> None:
        view = memoryview(data)
        shaking = self.verifier is not None and not self.verifier.pinned
        while len(view):
            count = self._tls.write(view)
            if count is not None:
                view = view[count:]
                shaking = False
                continue
            # In the hand-shake the TLS stack waits for the peer's bytes (or, rarely, for room: hence the short turns); after it,
            # for room to write.
            wait = _left(start, deadline_ms)
            if (
                not await self._wait(not shaking, min(wait, _RETRY_MS) if shaking else wait)
                and not shaking
            ):
                raise PeerError("link-timeout")

    async def _wait(self, writable: bool, wait_ms: int) -> bool:
        try:
            await asyncio.wait_for_ms(_ready(self._raw, writable), wait_ms)
        except asyncio.TimeoutError:
            return False
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:
        """How many bytes the connection takes at once. The others go to send(), before any more and as they are: the TLS stack may hold
        a record of them that it could not finish, and asks for the same bytes again. PeerError link-closed."""
        try:
            return self._tls.write(data) or 0
        except (OSError, AttributeError):
            raise PeerError("link-closed")

    async def send(self, data: "bytes | bytearray | memoryview") -> None:
        """Write all bytes; PeerError link-timeout when the peer takes none for stall_ms, link-closed when the connection is gone."""
        try:
            await self._write(data, time.ticks_ms(), self._stall_ms)
        except (OSError, AttributeError):
            raise PeerError("link-closed")

    async def wait_readable(self, wait_ms: int) -> bool:
        """Whether the raw socket has bytes, or its end, within wait_ms. Read until None before calling."""
        if self._raw is None:
            raise PeerError("link-closed")
        return await self._wait(False, wait_ms)

    def receive_into(self, view: memoryview) -> "int | None":
        """Bytes read (at least one), or None when there are none right now. PeerError link-closed at the end of the stream."""
        if self._tls is None:
            raise PeerError("link-closed")
        try:
            count = self._tls.readinto(view)
        except OSError:
            raise PeerError("link-closed")
        if count == 0:
            raise PeerError("link-closed")
        return count

    def close(self) -> None:
        """Close both sockets. A second call does nothing."""
        for socket in (self._tls, self._raw):
            if socket is not None:
                try:
                    socket.close()
                except OSError:
                    pass  # it is gone either way
        self._tls = self._raw = None


def _left(start: int, deadline_ms: int) -> int:
    left = deadline_ms - time.ticks_diff(time.ticks_ms(), start)
    if left <= 0:
        raise PeerError("link-timeout")
    return left
