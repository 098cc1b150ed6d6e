"""One pinned TLS connection that never blocks the event loop.

The socket is non-blocking from the start, and every wait is for the raw socket, under one
deadline: a peer that sends byte by byte gains no time, and nothing polls the TLS socket (its poll
is busy: docs/threat-model.md). The TLS stack reads through a meter, which ends each of its calls:
a peer that keeps sending does not keep the stack.

Checks: the chain up to our own CAs, the name and the dates (by the TLS stack, CERT_REQUIRED),
forward secrecy (cipher suites), and that the leaf's public key is one of our pins (by the
callback, at depth 0 only: a forged chain may carry the real CA at depth 1).
"""

import asyncio
import errno
import io
import time

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError, ensure
from .verifier import TrustAnchors, Verifier

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Generator

    from .clock import Clock

# ECDHE only, so that a key stolen later opens no recording; AEAD only. Without a list, a server
# with an RSA certificate gets key exchange without forward secrecy.
_CIPHERS = const(
    (
        "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
        "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
        "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",
        "TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384",
    )
)
# IPPROTO_TCP and TCP_NODELAY, which few ports name. Without it, Nagle's algorithm holds a record
# back until the one before is acknowledged: 40 ms with a peer that delays its ACKs.
_TCP = const(6)
_NODELAY = const(1)
_RETRY_MS = const(250)
# Bytes that the TLS stack may read in one call: a flight of the hand-shake takes one or two calls,
# a few milliseconds of a board's time.
_ALLOWANCE = const(4096)
_MAX_PLACES = const(4)  # addresses tried of each family


def _ready(raw: "Any", writable: bool) -> "Generator[None, None, None]":
    # As asyncio's own streams wait: they would take 2 KB more, and a second buffer.
    queue = asyncio.core._io_queue  # type: ignore[attr-defined]  # the stubs leave it out
    yield queue.queue_write(raw) if writable else queue.queue_read(raw)


class Meter(io.IOBase):
    """Give the TLS stack at most `left` bytes of the raw socket, then say that none are there.

    The stack reads on in one call until it has something to hand out. Nothing here raises: an
    exception would leave the stack's C code half done.
    """

    def __init__(self, raw: "Any") -> None:
        self._raw = raw
        self.left = 0
        self.last = 0  # second of two bytes read: an alert's description, after a fatal one

    def readinto(self, buffer: bytearray) -> "int | None":
        """Read: the number of bytes, None for none now, 0 at the end, or a negative errno."""
        if self.left <= 0:
            return None
        try:
            count: "int | None" = self._raw.readinto(buffer, self.left)
        except OSError as error:
            return -(error.errno or errno.EIO)
        if count:
            self.left -= count
            if count == 2:
                self.last = buffer[1]
        return count

    def write(self, data: bytearray) -> "int | None":
        """Write: the number of bytes, None for none now, or a negative errno."""
        try:
            count: "int | None" = self._raw.write(data)
        except OSError as error:
            return -(error.errno or errno.EIO)
        return count

    def ioctl(self, request: int, argument: int) -> int:
        """Accept a close (request 4) alone, which `Link` passes to the raw socket itself."""
        return 0 if request == 4 else -errno.EINVAL


class Link:
    """One connection: connect() once, then send() and receive_into(), then close().

    trust: CAs and pins. clock: for a tentative time. stall_ms: how long a write may wait.
    verifier: the callback of the last hand-shake.
    """

    def __init__(self, trust: TrustAnchors, clock: "Clock", stall_ms: int) -> None:
        self._trust = trust
        self._clock = clock
        self._stall_ms = stall_ms
        self._raw: "Any" = None
        self._meter: "Any" = None
        self._tls: "Any" = None
        self.verifier: "Verifier | None" = None

    async def connect(self, host: str, port: int, first: bytes, deadline_ms: int) -> None:
        """Connect, shake hands and write `first`.

        host: name or IP address. first: bytes, at least one. deadline_ms: for all of it.

        Where the pin matches and only the dates are wrong, by a clock whose time is unproven in
        this boot, the hand-shake is tried once more with a tentative time: the certificate's
        beginning where that is in the future, the clock's marks where the certificate has expired.

        Raises LinkError unreachable, link-timeout, link-closed; PeerError tls-…, certificate-…,
        pin-mismatch.
        """
        ensure(len(first) > 0, "bad-argument", "the hand-shake needs a first byte to write")
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
        """Try each address of the host until one answers."""
        import socket

        self.close()
        failure: "PeerError | None" = None
        # lwIP gives one address of the family that is asked for.
        families = [socket.AF_INET, socket.AF_INET6]
        if _is_address(host):
            del families[":" not in host]
        while families:
            try:
                places = socket.getaddrinfo(host, port, families.pop(0), socket.SOCK_STREAM)
            except OSError as error:
                places = []
                if failure is None:
                    failure = _unreachable(error)
            await asyncio.sleep_ms(0)  # a look-up holds the loop
            # ESP-IDF's port lists addresses of IPv6 as None.
            places = [place for place in places if place[-1]][:_MAX_PLACES]
            while places:
                place = places.pop(0)
                left = _left(start, deadline_ms)
                try:
                    # Half of what is left, while there is another address to try.
                    await self._open(place, left // 2 if places or families else left)
                    await self._shake(host, first, start, deadline_ms)
                    return
                except PeerError as error:
                    failure = error
                self.close()
                if not isinstance(failure, LinkError):
                    raise failure
        raise failure or LinkError("unreachable", "the server's name has no address")

    async def _open(self, place: "Any", wait_ms: int) -> None:
        """Open a TCP connection within wait_ms. Raises LinkError unreachable, link-timeout."""
        import socket

        try:
            self._raw = socket.socket(*place[:3])
            self._raw.setblocking(False)
            try:
                self._raw.setsockopt(_TCP, _NODELAY, 1)
            except (OSError, AttributeError):
                pass  # this port has no such option
            try:
                self._raw.connect(place[-1])
            except OSError as error:
                if error.errno != errno.EINPROGRESS:
                    raise
            if not await self._wait(True, wait_ms):
                raise LinkError("link-timeout")
            self._raw.send(b"")  # lwIP says "reset" of a refused connection, here as later
        except OSError as error:
            raise _unreachable(error)

    async def _shake(self, host: str, first: bytes, start: int, deadline_ms: int) -> None:
        """Shake hands over the open connection and write `first`."""
        import tls

        verifier = self.verifier = Verifier(self._trust)
        self._meter = meter = Meter(self._raw)
        try:
            # A fresh context: no session and no callback of an earlier connection is used again.
            context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
            context.verify_mode = tls.CERT_REQUIRED
            context.set_ciphers(_CIPHERS)
            context.verify_callback = verifier
            for ca in self._trust.cas:
                context.load_verify_locations(ca)
            self._tls = context.wrap_socket(
                meter, server_hostname=host, do_handshake_on_connect=False
            )
            # The stack has no call for the hand-shake alone. It runs in reads until the callback
            # was asked, and ends in the write of `first`, which may hold a password.
            byte = bytearray(1)
            waited = True
            while verifier.pinned != 1:
                meter.left = _ALLOWANCE
                if waited or verifier.seen:
                    count = self._tls.readinto(byte)
                else:  # a firmware that asks no callback shows it by a byte that was written
                    count = self._tls.write(first[:1])
                    # Or by a server that answered late: the whole hand-shake ran in this call.
                    first = first[count or 0 :]
                if verifier.refusal:
                    # The stack passes the callback's 1 on, which means one byte.
                    raise PeerError(verifier.refusal, "the hand-shake failed")
                if count == 0:
                    raise LinkError("link-closed")
                if count and verifier.pinned != 1:
                    raise PeerError("pin-mismatch", "this firmware checks no pins")
                # The stack waits for bytes, rarely for room: hence the short turns.
                left = min(_left(start, deadline_ms), _RETRY_MS)
                waited = verifier.pinned == 1 or await self._wait(False, left)
            await self._write(first, start, deadline_ms, True)
        except (OSError, ValueError) as error:
            self.close()  # the code that explains the failure needs the buffers' memory
            from . import failures

            failure = failures.of_handshake(
                verifier, error, self._clock.now(), _is_address(host), meter.last
            )
            unload("warden.net.failures")
            raise failure

    async def _write(
        self,
        data: "bytes | bytearray | memoryview",
        start: int,
        deadline_ms: int,
        shaking: bool = False,
    ) -> None:
        view = memoryview(data)
        while len(view):
            self._meter.left = _ALLOWANCE
            count = self._tls.write(view)
            if count is not None:
                view = view[count:]
                shaking = False
                continue
            # In the hand-shake the stack waits for bytes, after it for room.
            wait = _left(start, deadline_ms)
            if shaking:
                wait = min(wait, _RETRY_MS)
            if not await self._wait(not shaking, wait) and not shaking:
                raise LinkError("link-timeout")

    async def _wait(self, writable: bool, wait_ms: int) -> bool:
        try:
            await asyncio.wait_for_ms(_ready(self._raw, writable), wait_ms)
        except asyncio.TimeoutError:
            return False
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:
        """Write without waiting, and return how many bytes were taken.

        The others must go to send(), unchanged and before any more: the TLS stack may hold an
        unfinished record of them. Raises LinkError link-closed.
        """
        try:
            self._meter.left = _ALLOWANCE
            return self._tls.write(data) or 0
        except (OSError, AttributeError):
            raise LinkError("link-closed")

    async def send(self, data: "bytes | bytearray | memoryview") -> None:
        """Write all bytes within stall_ms. Raises LinkError link-timeout, link-closed."""
        try:
            await self._write(data, time.ticks_ms(), self._stall_ms)
        except (OSError, AttributeError):
            raise LinkError("link-closed")

    async def wait_readable(self, wait_ms: int) -> bool:
        """Wait for bytes on the raw socket, or its end: return whether one came within wait_ms.

        Call receive_into() until it returns None before. Raises LinkError link-closed.
        """
        if self._raw is None:
            raise LinkError("link-closed")
        return await self._wait(False, wait_ms)

    def receive_into(self, view: memoryview) -> "int | None":
        """Read into the view: return the number of bytes, or None where none are there now.

        Raises LinkError link-closed, at the end of the stream too.
        """
        if self._tls is None:
            raise LinkError("link-closed")
        self._meter.left = _ALLOWANCE
        try:
            count = self._tls.readinto(view)
        except OSError:
            raise LinkError("link-closed")
        if count == 0:
            raise LinkError("link-closed")
        return count

    def close(self) -> None:
        """Close both sockets. A closed link may be closed again."""
        for socket in (self._tls, self._raw):
            if socket is not None:
                try:
                    socket.close()
                except OSError:
                    pass  # it is gone either way
        self._tls = self._meter = self._raw = None


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _unreachable(error: Exception) -> LinkError:
    return LinkError("unreachable", "no connection to the server (errno %s)" % error.args[0])


def _left(start: int, deadline_ms: int) -> int:
    left = deadline_ms - time.ticks_diff(time.ticks_ms(), start)
    if left <= 0:
        raise LinkError("link-timeout")
    return left
