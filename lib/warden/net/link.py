"""One pinned TLS connection that never blocks the event loop.

The socket is non-blocking from the start, and every wait is for the raw socket, under one
deadline: a peer that sends byte by byte gains no time, and nothing polls the TLS socket (its poll
is busy: docs/threat-model.md). The TLS stack reads through a meter (net/meter.py), which ends each
of its calls: a peer that keeps sending does not keep the stack.

Checks: the chain up to our own CAs, the name and the dates (by the TLS stack, CERT_REQUIRED),
forward secrecy (cipher suites), and that the leaf's public key is one of our pins (by the
callback, at depth 0 only: a forged chain may carry the real CA at depth 1). net/dial.py and
net/chain.py make them.
"""

import asyncio
import time

from micropython import const

from .. import unload
from ..errors import LinkError, ensure
from .meter import ALLOWANCE

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Coroutine, Generator

    from .clock import Clock
    from .verifier import TrustAnchors, Verifier

_BROKEN = OSError, AttributeError  # AttributeError: of a socket that was closed meanwhile


def _ready(raw: "Any", writable: bool) -> "Generator[None, None, None]":
    # As asyncio's own streams wait: they would take 2 KB more, and a second buffer.
    queue = asyncio.core._io_queue  # type: ignore[attr-defined]  # the stubs leave it out
    yield queue.queue_write(raw) if writable else queue.queue_read(raw)


class Link:
    """One connection: connect() once, then send() and receive_into(), then close().

    trust: CAs and pins. clock: for a tentative time. stall_ms: how long a write may wait.
    verifier: the callback of the last hand-shake. rest(): called in each hand-shake, once the pin
    matched: what follows the first bytes. raw, meter, tls: the parts of the open connection, which
    net/dial.py makes.
    """

    def __init__(self, trust: "TrustAnchors", clock: "Clock", stall_ms: int) -> None:
        self.trust = trust
        self.clock = clock
        self._stall_ms = stall_ms
        self.raw: "Any" = None
        self.meter: "Any" = None
        self.tls: "Any" = None
        self.verifier: "Verifier | None" = None
        self.rest: "Callable[[], bytes | bytearray]" = bytes

    async def connect(self, host: str, port: int, first: bytes, deadline_ms: int) -> None:
        """Connect, shake hands, and write `first` and what rest() returns in one record.

        host: name or IP address. first: bytes, at least one. deadline_ms: for all of it.

        Where the pin matches and only the dates are wrong, by a clock whose time is unproven in
        this boot, the hand-shake is tried once more with a tentative time: the certificate's
        beginning where that is in the future, the clock's marks where the certificate has expired.

        Raises LinkError dns-failed, unreachable, link-timeout, link-closed; PeerError no-tls,
        tls-…, certificate-…, pin-mismatch.
        """
        ensure(len(first) > 0, "bad-argument", "the hand-shake needs a first byte to write")
        from . import dial

        try:
            await dial.connect(self, host, port, first, deadline_ms)
        finally:
            unload("warden.net.dial")

    def shake(
        self, host: str, first: bytes, start: int, deadline_ms: int
    ) -> "Coroutine[Any, Any, None]":
        """Shake hands over the open socket, write `first` and what rest() returns.

        No coroutine around dial.py's own: it would take 200 bytes of a C stack of 8 KB.
        """
        from . import dial

        return dial.shake(self, host, first, start, deadline_ms)

    async def write_all(
        self, data: "bytes | bytearray | memoryview", start: int, deadline_ms: int
    ) -> None:
        """Write all bytes within deadline_ms after start. LinkError link-timeout; OSError."""
        view = memoryview(data)
        while len(view):
            self.meter.left = ALLOWANCE
            count = self.tls.write(view)
            if count is not None:
                view = view[count:]
                continue
            left = deadline_ms - time.ticks_diff(time.ticks_ms(), start)
            if left <= 0 or not await self.wait(True, left):
                raise LinkError("link-timeout")

    async def wait(self, writable: bool, wait_ms: int) -> bool:
        """Wait for the raw socket; return whether it got ready within wait_ms."""
        try:
            await asyncio.wait_for_ms(_ready(self.raw, writable), wait_ms)
        except asyncio.TimeoutError:
            return False
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:
        """Write without waiting, and return how many bytes were taken.

        The others must go to send(), unchanged and before any more: the TLS stack may hold an
        unfinished record of them. Raises LinkError link-closed.
        """
        try:
            self.meter.left = ALLOWANCE
            return self.tls.write(data) or 0
        except _BROKEN:
            raise LinkError("link-closed")

    async def send(self, data: "bytes | bytearray | memoryview") -> None:
        """Write all bytes within stall_ms. Raises LinkError link-timeout, link-closed."""
        try:
            await self.write_all(data, time.ticks_ms(), self._stall_ms)
        except _BROKEN:
            raise LinkError("link-closed")

    async def wait_readable(self, wait_ms: int) -> bool:
        """Wait for bytes on the raw socket, or its end: return whether one came within wait_ms.

        Call receive_into() until it returns None before. Raises LinkError link-closed.
        """
        if self.raw is None:
            raise LinkError("link-closed")
        return await self.wait(False, wait_ms)

    def receive_into(self, view: memoryview) -> "int | None":
        """Read into the view: return the number of bytes, or None where none are there now.

        Raises LinkError link-closed, at the end of the stream too.
        """
        if self.tls is None:
            raise LinkError("link-closed")
        self.meter.left = ALLOWANCE
        try:
            count = self.tls.readinto(view)
        except OSError:
            raise LinkError("link-closed")
        if count == 0:
            raise LinkError("link-closed")
        return count

    def close(self) -> None:
        """Close both sockets. A closed link may be closed again."""
        for socket in (self.tls, self.raw):
            if socket is not None:
                try:
                    socket.close()
                except OSError:
                    pass  # it is gone either way
        self.tls = self.meter = self.raw = None
