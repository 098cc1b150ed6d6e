"""A device at a serial line: its frames, turned into the stream that gateway.py reads and writes.

The frames are those of lib/warden/net/serial.py, which says why: SLIP (RFC 1055) around [kind,
number, up to 64 bytes, CRC-32]. A frame that is damaged or out of its order ends the connection;
the device opens the next one. It needs pyserial, for the port's settings alone.
"""

import asyncio
import os
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

OPEN, OPENED, DATA, CLOSE = 1, 2, 3, 4
END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE = 0xC0, 0xDB, 0xDC, 0xDD
PAYLOAD = 64  # bytes of a frame
MOST = 2 * (PAYLOAD + 6)  # bytes between two ENDs
NONCE = 8

# Serves one connection: (reader, writer), as asyncio.start_server() has it.
Serve = Callable[[asyncio.StreamReader, Any], Awaitable[None]]


def frame(kind: int, number: int, payload: bytes) -> bytes:
    """Return a frame's bytes for the line."""
    body = bytes((kind, number)) + payload
    body += zlib.crc32(body).to_bytes(4, "little")
    body = body.replace(bytes((ESCAPE,)), bytes((ESCAPE, ESCAPED_ESCAPE)))
    body = body.replace(bytes((END,)), bytes((ESCAPE, ESCAPED_END)))
    return bytes((END,)) + body + bytes((END,))


def unpack(data: bytes) -> tuple[int, int, bytes] | None:
    """Return kind, number and payload of what stood between two ENDs; None where it is damaged."""
    data = data.replace(bytes((ESCAPE, ESCAPED_END)), bytes((END,)))
    data = data.replace(bytes((ESCAPE, ESCAPED_ESCAPE)), bytes((ESCAPE,)))
    body, check = data[:-4], data[-4:]
    if not 2 <= len(body) <= 2 + PAYLOAD or zlib.crc32(body).to_bytes(4, "little") != check:
        return None
    return body[0], body[1], body[2:]


class Writer:
    """What gateway.py writes to: bytes in frames. It is its own transport, too."""

    def __init__(self, line: "SerialLine") -> None:
        self.transport = self
        self.reader = asyncio.StreamReader()
        self.closed = False
        self.received = 0  # frames
        self._line = line
        self._sent = 0

    def get_write_buffer_size(self) -> int:
        return self._line.unsent

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        for at in range(0, len(data), PAYLOAD):
            self._line.send(frame(DATA, self._sent & 0xFF, data[at : at + PAYLOAD]))
            self._sent += 1

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.reader.feed_eof()
            self._line.send(frame(CLOSE, 0, b""))


class SerialLine:
    """Serve the device at the other end, one connection at a time, while start() … stop().

    descriptor: of the open port, which neither waits nor changes bytes.
    """

    def __init__(self, descriptor: int, serve: Serve) -> None:
        self._descriptor = descriptor
        self._serve = serve
        self._writer: Writer | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._rest = b""
        self._out = bytearray()

    @property
    def unsent(self) -> int:
        return len(self._out)

    def start(self) -> None:
        """Read the line on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._on_readable)

    def stop(self) -> None:
        """End the connection, and leave the port open."""
        self._end()
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)

    def send(self, data: bytes) -> None:
        """Write bytes as the line takes them."""
        if not self._out:
            self._loop.add_writer(self._descriptor, self._on_writable)
        self._out += data

    def _on_writable(self) -> None:
        try:
            del self._out[: os.write(self._descriptor, self._out)]
        except BlockingIOError:
            return
        except OSError:  # the port is gone
            self.stop()
            return
        if not self._out:
            self._loop.remove_writer(self._descriptor)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        except OSError:  # the port is gone
            data = b""
        if not data:
            self.stop()
            return
        *frames, self._rest = (self._rest + data).split(bytes((END,)))
        self._rest = self._rest[: MOST + 1]  # more is no frame: its CRC must not fit
        for one in frames:
            if one:
                self._on_frame(unpack(one))

    def _on_frame(self, found: tuple[int, int, bytes] | None) -> None:
        writer = self._writer
        if found is None:
            self._end()
            return
        kind, number, payload = found
        if kind == OPEN and len(payload) == NONCE:
            self._begin(payload)
        elif kind == CLOSE:
            self._end()
        elif kind == DATA and writer is not None and not writer.closed:
            if number != writer.received & 0xFF:
                self._end()
                return
            writer.received += 1
            writer.reader.feed_data(payload)

    def _begin(self, nonce: bytes) -> None:
        self._end()
        self._out.clear()  # of the connection before
        self.send(frame(OPENED, 0, nonce))
        self._writer = Writer(self)
        task = asyncio.ensure_future(self._serve(self._writer.reader, self._writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def open_port(path: str, baud: int) -> Any:
    """Return the open port; it is closed when it is collected. Raises OSError."""
    import serial  # type: ignore[import-untyped]  # pyserial

    port = serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
    os.set_blocking(port.fileno(), False)
    return port
