"""Read the answers of a web server on one link: a narrow part of HTTP/1.1 (RFC 9110, 9112).

The server is not trusted. What it can waste is bounded: one buffer, one deadline for an answer, 48
lines and 8,192 bytes in front of its body. No redirects, no compression, no cookies.

https-address      no address of a web server that a device asks
https-malformed    no HTTP/1.1 answer, headers above the limits, or a body in a form that was not
                   asked for
"""

import time

from micropython import const

from ..errors import LinkError, PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable

    from .link import Link

_LINE = const(512)  # of a longer line the beginning is kept
_MOST_LINES = const(48)
_MOST_BYTES = const(8192)  # of an answer in front of its body, interim answers among them
_HOST = const(b"abcdefghijklmnopqrstuvwxyz0123456789.-")


def address(uri: bytes) -> "tuple[str, int, bytes]":
    """Return (host, port, path) of https://host[:port]/path.

    Raises: PeerError https-address: anything else, such as a user or a fragment.
    """
    rest = uri[8:]
    place, slash, path = rest.partition(b"/")
    host, colon, digits = place.partition(b":")
    port = 443
    if colon:
        port = int(digits) if digits.isdigit() and len(digits) <= 5 else 0
    good = uri.startswith(b"https://") and slash and 0 < len(host) <= 253 and 0 < port < 65536
    if good:
        for byte in host.lower():
            good = good and byte in _HOST
        # A space or the end of a line would make two requests of one.
        for byte in path:
            good = good and 33 <= byte <= 126 and byte != 35
    if not good:
        raise PeerError("https-address", "this is no address of a web server")
    return host.decode(), port, b"/" + path


class Answers:
    """The answers on one link, one after the other.

    link: connected before the first read. limit_ms: for one answer, from start() on.
    closes: whether the server ends the connection behind the present answer.
    """

    def __init__(self, link: "Link", limit_ms: int) -> None:
        self._link = link
        self._limit_ms = limit_ms
        self._buffer = memoryview(bytearray(_LINE))
        self._start = self._end = 0  # what of the buffer was received and is not used yet
        self._size = 0  # bytes of the lines of the present answer
        self._began = 0
        self.closes = False

    def start(self) -> None:
        """Begin the time of the next answer; call it before the request is sent."""
        self._began = time.ticks_ms()
        self._size = 0
        self.closes = False

    def drop(self) -> None:
        """Discard what was received: the connection ended."""
        self._start = self._end = 0

    async def status(self) -> bytes:
        """Return the three digits of the status, behind any interim answers (RFC 9110 §15.2)."""
        status = await self._status()
        while status[:1] == b"1" and status != b"101":
            while await self.line():
                pass
            status = await self._status()
        return status

    async def headers(self, names: "tuple[bytes, ...]", on_header: "Callable[..., None]") -> None:
        """Read the headers up to the body.

        names: headers that the caller judges, in lower case; a line of these is read whole.
        on_header(name, value): called for each of them.
        """
        for _ in range(_MOST_LINES):
            line = await self.line()
            if not line:
                return
            name, colon, value = line.partition(b":")
            # A space before the colon, or at a line's start, is read in two ways by two readers.
            if not colon or not name or b" " in name or b"\t" in name:
                break
            name, value = name.lower(), value.strip(b" \t")
            judged = name in names or name == b"connection"
            if len(line) == _LINE and judged:
                break
            if name == b"connection":
                for option in value.lower().split(b","):
                    if option.strip(b" \t") == b"close":
                        self.closes = True
            elif judged:
                on_header(name, value)
        raise PeerError("https-malformed", "headers that are malformed, or too many")

    async def line(self) -> bytes:
        """Return the next line without CR LF; of a line longer than the buffer, its beginning."""
        beginning = b""
        while True:
            for at in range(self._start, self._end):
                if self._buffer[at] == 10:
                    if at == self._start or self._buffer[at - 1] != 13:
                        raise PeerError("https-malformed", "a line without its end")
                    line = beginning or bytes(self._buffer[self._start : at - 1])
                    self._count(at + 1 - self._start)
                    self._start = at + 1
                    return line
            if self._start:
                count = self._end - self._start
                self._buffer[:count] = bytes(self._buffer[self._start : self._end])
                self._start, self._end = 0, count
            if self._end == _LINE:
                # All but the last byte goes: that may be the CR.
                beginning = beginning or bytes(self._buffer)
                self._count(_LINE - 1)
                self._buffer[0] = self._buffer[_LINE - 1]
                self._end = 1
            self._end += await self._receive(self._buffer[self._end :])

    async def body(self, view: memoryview) -> int:
        """Receive bytes of the body, first those behind the headers; return their number."""
        count = min(len(view), self._end - self._start)
        if count:
            view[:count] = self._buffer[self._start : self._start + count]
            self._start += count
            return count
        return await self._receive(view)

    async def _status(self) -> bytes:
        line = await self.line()
        if line[:9] != b"HTTP/1.1 " or not line[9:12].isdigit() or line[12:13] not in (b"", b" "):
            raise PeerError("https-malformed", "no HTTP/1.1")
        return line[9:12]

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _MOST_BYTES:
            raise PeerError("https-malformed", "headers that are too long")

    async def _receive(self, view: memoryview) -> int:
        while True:
            left = self._limit_ms - time.ticks_diff(time.ticks_ms(), self._began)
            if left <= 0:
                raise LinkError("link-timeout")
            count = self._link.receive_into(view)
            if count is not None:
                return count
            await self._link.wait_readable(left)
