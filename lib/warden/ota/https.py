"""Fetch an image from a web server, range by range over one pinned connection: a narrow part of
HTTP/1.1 (RFC 9110, 9112).

    await fetch(update, lambda: Link(trust, clock, stall_ms), now_ms)

    stream = Stream(link, b"https://host:port/path", at, total)
    await stream.fill(view)          the next bytes of the image
    stream.close()

The server is not trusted: the manifest's digest decides on what it sends. What it can waste is
bounded: one buffer, ranges of 16 KB with a deadline each, and an answer that is anything but the
range that was asked for ends the fetch. No redirects, no chunks, no compression, no cookies, no
cache.

https-address      the manifest's address is none that is fetched from
https-status       another status than 206: all of the image at once, somewhere else, not there
https-range        206, but another range, another length or another total than was asked for
https-malformed    no HTTP/1.1 answer, headers above the limits (8,192 bytes, 48 lines), or a body
                   in a form that was not asked for
"""

import asyncio
import time

from micropython import const

from ..errors import LinkError, PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..net.link import Link
    from .update import Update

_CHUNK = const(1024)  # what an update asks for at most
_RANGE = const(16384)
_RANGE_MS = const(20000)  # for one of them, the hand-shake included where one is needed
_LINE = const(512)  # of a longer line the beginning is kept
_MOST_LINES = const(48)
_MOST_BYTES = const(8192)  # of an answer in front of its body, interim answers among them
_TRIES = const(3)  # without a whole range in between
_PAUSE_MS = const(1000)
# Headers that describe the body: a line of these is read whole.
_JUDGED = const(
    (
        b"content-range",
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"connection",
    )
)
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
        raise PeerError("https-address", "the image's address is none to fetch from")
    return host.decode(), port, b"/" + path


async def fetch(
    update: "Update", connection: "Callable[[], Link]", now_ms: "Callable[[], int]"
) -> None:
    """Fetch the images of an update, until it is no longer downloading.

    connection: returns a link that is not connected yet
    now_ms: returns the uptime
    Raises: PeerError: where the update is still downloading, another way may lead to the rest;
      StoreError: the update is over.
    """
    buffer = memoryview(bytearray(_CHUNK))
    stream = None
    part = ""
    try:
        while update.state == "Downloading":
            download: "Any" = update.download
            wanted = download.want()
            if wanted is None:
                update.step()
                await asyncio.sleep_ms(0)
                continue
            number, name, at, length = wanted
            if stream is None or name != part:
                if stream is not None:
                    stream.close()
                uri, total = download.source()
                stream, part = Stream(connection(), uri, at, total), name
            await stream.fill(buffer[:length])
            # The limit of six hours holds here, too.
            download.tick(now_ms())
            if update.state == "Downloading":
                download.chunk(number, buffer[:length], now_ms())
                # Other tasks run even where the server is always ahead.
                await asyncio.sleep_ms(0)
    finally:
        if stream is not None:
            stream.close()


class Stream:
    """The bytes of one image, in their order.

    link: not connected yet
    at: the offset to begin with
    total: bytes of the image, as the manifest says
    """

    def __init__(self, link: "Link", uri: bytes, at: int, total: int) -> None:
        self._link = link
        self._host, self._port, self._path = address(uri)
        self._place = ("%s:%d" % (self._host, self._port)).encode()
        self._at = at
        self._total = total
        self._buffer = memoryview(bytearray(_LINE))
        self._start = self._end = 0  # what of the buffer was received and is not used yet
        self._size = 0  # bytes of the lines of the present answer
        self._left = 0  # bytes of the present range
        self._began = 0
        self._connected = False
        self._closes = False
        self._tries = 0
        self.ranges = 0

    async def fill(self, view: memoryview) -> None:
        """Fill a view with the next bytes.

        Raises: PeerError: one of the above; LinkError: three connections got no further.
        """
        while len(view):
            try:
                if not self._left:
                    await self._ask()
                count = await self._body(view[: self._left])
            except PeerError as error:
                self._drop()
                self._tries += 1
                if not isinstance(error, LinkError) or self._tries >= _TRIES:
                    raise
                await asyncio.sleep_ms(_PAUSE_MS)
                continue
            self._at += count
            self._left -= count
            view = view[count:]
            if not self._left:
                self._tries = 0
                self.ranges += 1

    def close(self) -> None:
        self._drop()

    def _drop(self) -> None:
        self._link.close()
        self._connected = False
        self._start = self._end = self._left = 0

    # -- one range ----------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Request the next range, and read its answer up to the body."""
        last = min(self._at + _RANGE, self._total) - 1
        wanted = ("%d-%d" % (self._at, last)).encode()
        request = b"GET " + self._path + b" HTTP/1.1\r\nHost: " + self._place
        request += b"\r\nRange: bytes=" + wanted + b"\r\nAccept-Encoding: identity\r\n\r\n"
        self._began = time.ticks_ms()
        if self._closes:
            self._closes = False
            self._drop()
        if self._connected:
            # Bytes behind the body before answer no question of ours: they are no status line.
            await self._link.send(request)
        else:
            await self._link.connect(self._host, self._port, request, _RANGE_MS)
            self._connected = True
        await self._head(b"bytes " + wanted + ("/%d" % self._total).encode(), last + 1 - self._at)
        self._left = last + 1 - self._at

    async def _head(self, span: bytes, length: int) -> None:
        """Read the status line and the headers, behind any interim answers (RFC 9110 §15.2)."""
        self._size = 0
        status = await self._status()
        while status[:1] == b"1" and status != b"101":
            while await self._line():
                pass
            status = await self._status()
        if status != b"206":
            raise PeerError("https-status", "the server answers %s" % status.decode())
        ranges = lengths = 0
        for _ in range(_MOST_LINES):
            line = await self._line()
            if not line:
                if ranges != 1 or lengths != 1:
                    raise PeerError("https-range", "a range that does not say which one")
                return
            name, colon, value = line.partition(b":")
            # A space before the colon, or at a line's start, is read in two ways by two readers.
            if not colon or not name or b" " in name or b"\t" in name:
                break
            name, value = name.lower(), value.strip(b" \t")
            if len(line) == _LINE and name in _JUDGED:
                break
            if name == b"content-range":
                ranges += 1
                if value != span:
                    raise PeerError("https-range", "another range than was asked for")
            elif name == b"content-length":
                lengths += 1
                if value != str(length).encode():
                    raise PeerError("https-range", "another length than was asked for")
            elif name == b"transfer-encoding" or name == b"content-encoding":
                raise PeerError("https-malformed", "a body in a form that was not asked for")
            elif name == b"connection":
                for option in value.lower().split(b","):
                    if option.strip(b" \t") == b"close":
                        self._closes = True
        raise PeerError("https-malformed", "headers that are malformed, or too many")

    async def _status(self) -> bytes:
        """Read a status line, and return the three digits of the status."""
        line = await self._line()
        if line[:9] != b"HTTP/1.1 " or not line[9:12].isdigit() or line[12:13] not in (b"", b" "):
            raise PeerError("https-malformed", "no HTTP/1.1")
        return line[9:12]

    async def _line(self) -> bytes:
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

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _MOST_BYTES:
            raise PeerError("https-malformed", "headers that are too long")

    async def _body(self, view: memoryview) -> int:
        """Receive bytes of the body, first those behind the headers; return their number."""
        count = min(len(view), self._end - self._start)
        if count:
            view[:count] = self._buffer[self._start : self._start + count]
            self._start += count
            return count
        return await self._receive(view)

    async def _receive(self, view: memoryview) -> int:
        while True:
            left = _RANGE_MS - time.ticks_diff(time.ticks_ms(), self._began)
            if left <= 0:
                raise LinkError("link-timeout")
            count = self._link.receive_into(view)
            if count is not None:
                return count
            await self._link.wait_readable(left)
