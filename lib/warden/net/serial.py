"""A connection over a serial line to a gateway, for sealed sessions alone (docs/gateways.md).

A line has no connections, loses bytes and turns them. So it carries frames: SLIP (RFC 1055) around
[kind, number, up to 64 bytes, CRC-32 of these in little-endian order]. OPEN begins a connection
with a nonce, and OPENED answers with the same; DATA frames are numbered from 0 in each direction,
so that a frame that got lost ends the connection, as a damaged one does; CLOSE ends it.
"""

import asyncio
import binascii
import select
import time

from micropython import const

from ..crypto.rand import random_bytes
from ..errors import LinkError
from .bare import BareLink

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from .clock import Clock
    from .verifier import TrustAnchors

_OPEN = const(1)
_OPENED = const(2)
_DATA = const(3)
_CLOSE = const(4)
_END = const(0xC0)
_ESCAPE = const(0xDB)
_PAYLOAD = const(64)  # bytes of a frame
_MOST = const(70)  # with kind, number and CRC
_READS = const(3)  # of _PAYLOAD bytes, in which a whole frame comes, escaped
_AGAIN_MS = const(1000)  # between two OPEN frames


def frame(kind: int, number: int, payload: "bytes | bytearray | memoryview") -> bytearray:
    """Return a frame's bytes for the line."""
    body = bytes((kind, number)) + bytes(payload)
    out = bytearray((_END,))
    for byte in body + binascii.crc32(body).to_bytes(4, "little"):
        if byte == _END or byte == _ESCAPE:
            out.append(_ESCAPE)
            byte = 0xDC if byte == _END else 0xDD
        out.append(byte)
    out.append(_END)
    return out


class Framer:
    """Split what the line gives into frames."""

    def __init__(self) -> None:
        self._body = bytearray()
        self._escaped = self._long = False
        self.damaged = False  # something between two frames was none

    def feed(self, byte: int) -> "bytearray | None":
        """Take a byte; return the kind, number and payload of a frame that it ends, or None."""
        body = self._body
        if byte == _END:
            long = self._long
            self._body, self._escaped, self._long = bytearray(), False, False
            if not body or long:
                return None
            if len(body) > 5 and binascii.crc32(body[:-4]) == int.from_bytes(body[-4:], "little"):
                return body[:-4]
            self.damaged = True
            return None
        if byte == _ESCAPE:
            self._escaped = True
            return None
        if self._escaped:
            byte = {0xDC: _END, 0xDD: _ESCAPE}.get(byte, byte)
            self._escaped = False
        if len(body) < _MOST:
            body.append(byte)
        else:
            self._long = self.damaged = True
        return None


class _Stream:
    """What the link takes for its TLS socket: bytes in frames. left: of a meter, not used."""

    def __init__(self, port: "Any") -> None:
        self.left = 0
        self._port = port
        self._framer = Framer()
        self._poll = select.poll()
        self._poll.register(port, select.POLLIN)
        self._chunk = bytearray(_PAYLOAD)
        self._at = self._end = 0  # bytes of _chunk that were fed, and that there are
        self._in = b""  # of a frame, not handed out yet
        self._out = bytearray()  # of a frame that the line has not taken yet
        self._taken = 0
        self._sent = self._received = 0  # frames

    def next_frame(self) -> "bytearray | None":
        """Return a frame of what was read, or None once all of it was fed. See fill()."""
        while self._at < self._end:
            self._at += 1
            found = self._framer.feed(self._chunk[self._at - 1])
            if found is not None:
                return found
        return None

    def fill(self) -> bool:
        """Read once what the line has, after next_frame() returned None; return whether it had.

        Between two calls others must have their turn: noise may come as fast as it is read.
        """
        self._at = self._end = 0
        if self._poll.poll(0):
            self._end = self._port.readinto(self._chunk) or 0
        return self._end > 0

    def start_connection(self) -> None:
        """Reset the counters and the damage of the connection before."""
        self._framer.damaged = False
        self._sent = self._received = 0

    def flush(self) -> bool:
        """Write what waits; return whether the line took all of it."""
        while self._out:
            count = self._port.write(self._out)
            if not count:
                return False
            self._out = self._out[count:]
        return True

    def put(self, kind: int, payload: "bytes | memoryview") -> None:
        """Queue a frame that is no DATA, in front of nothing."""
        self._out = frame(kind, 0, payload)
        self.flush()

    def write(self, data: "bytes | bytearray | memoryview") -> "int | None":
        """Write the first bytes; None: call again with the same ones, as of a TLS socket."""
        if not self._out:
            self._taken = min(_PAYLOAD, len(data))
            self._out = frame(_DATA, self._sent & 0xFF, memoryview(data)[: self._taken])
            self._sent += 1
        return self._taken if self.flush() else None

    def readinto(self, view: memoryview) -> "int | None":
        """Read what is there: a number of bytes, None for none now, 0 at the end. OSError."""
        reads = 0
        while not self._in:
            found = self.next_frame()
            if self._framer.damaged:
                raise OSError("a damaged frame")
            if found is None:
                if reads == _READS or not self.fill():
                    return None
                reads += 1
                continue
            if found[0] == _CLOSE or found[0] == _OPENED and self._received:
                return 0
            if found[0] == _DATA:
                if found[1] != self._received & 0xFF:
                    raise OSError("a frame got lost")
                self._received += 1
                self._in = bytes(found[2:])
        count = min(len(view), len(self._in))
        view[:count] = self._in[:count]
        self._in = self._in[count:]
        return count

    def close(self) -> None:
        """Tell the other end, as far as the line takes it; the port stays open."""
        self.put(_CLOSE, b"")


class SerialLink(BareLink):
    """A Link over the port of a serial line. port: of hal/network_serial.py."""

    def __init__(self, trust: "TrustAnchors", clock: "Clock", stall_ms: int, port: "Any") -> None:
        super().__init__(trust, clock, stall_ms)
        self._port = port

    async def connect(self, host: str, port: int, first: bytes, deadline_ms: int) -> None:
        """Open a connection to the gateway at the other end; host and port say nothing here.

        Raises LinkError unreachable, link-timeout, link-closed.
        """
        self.close()
        start = time.ticks_ms()
        self.raw, stream = self._port, _Stream(self._port)
        self.tls = self.meter = stream
        nonce = random_bytes(8)
        try:
            await self._open(stream, nonce, start, deadline_ms // 2)
        except OSError:
            raise LinkError("unreachable", "the serial port fails")
        await self.shake(host, first, start, deadline_ms)

    async def _open(self, stream: _Stream, nonce: bytes, start: int, wait_ms: int) -> None:
        asked = time.ticks_add(start, -_AGAIN_MS)
        while True:
            now = time.ticks_ms()
            if time.ticks_diff(now, start) >= wait_ms:
                raise LinkError("unreachable", "no gateway answers on the serial line")
            if time.ticks_diff(now, asked) >= _AGAIN_MS:
                stream.put(_OPEN, nonce)
                asked = now
            found = stream.next_frame()
            if found is None:
                if not stream.fill():
                    await self.wait(False, min(wait_ms, _AGAIN_MS))
            elif found[0] == _OPENED and found[2:] == nonce:
                stream.start_connection()
                return
            await asyncio.sleep_ms(0)

    def use(self) -> None:
        """Keep the stream that connect() opened."""

    def close(self) -> None:
        """End the connection; the port stays open for the next one."""
        if self.tls is not None:
            try:
                self.tls.close()
            except OSError:
                pass
        self.tls = self.meter = self.raw = None


def link_type(port: "Any") -> "Callable[..., SerialLink]":
    """Return what makes links over a port."""
    return lambda trust, clock, stall_ms: SerialLink(trust, clock, stall_ms, port)
