"""Fetch an image from a web server, range by range over one pinned connection (net/http.py).

    await fetch(update, lambda: Link(trust, clock, stall_ms), now_ms)

    stream = Stream(link, b"https://host:port/path", at, total)
    await stream.fill(view)          the next bytes of the image
    stream.close()

The server is not trusted: the manifest's digest decides on what it sends. What it can waste is
bounded: one buffer, ranges of 16 KB with a deadline each, and an answer that is anything but the
range that was asked for ends the fetch. No redirects, no chunks, no compression, no cookies, no
cache.

https-status       another status than 206: all of the image at once, somewhere else, not there
https-range        206, but another range, another length or another total than was asked for
"""

import asyncio

from micropython import const

from ..errors import LinkError, PeerError
from ..net.http import Answers, address

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..net.link import Link
    from .update import Update

_CHUNK = const(1024)  # what an update asks for at most
_RANGE = const(16384)
_RANGE_MS = const(20000)  # for one of them, the hand-shake included where one is needed
_TRIES = const(3)  # without a whole range in between
_PAUSE_MS = const(1000)
# Headers that describe the body.
_CHECKED = const((b"content-range", b"content-length", b"transfer-encoding", b"content-encoding"))


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
        self._answers = Answers(link, _RANGE_MS)
        self._left = 0  # bytes of the present range
        self._connected = False
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
                count = await self._answers.body(view[: self._left])
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
        self._answers.drop()
        self._left = 0

    # -- one range ----------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Request the next range, and read its answer up to the body."""
        last = min(self._at + _RANGE, self._total) - 1
        wanted = ("%d-%d" % (self._at, last)).encode()
        request = b"GET " + self._path + b" HTTP/1.1\r\nHost: " + self._place
        request += b"\r\nRange: bytes=" + wanted + b"\r\nAccept-Encoding: identity\r\n\r\n"
        if self._answers.closes:
            self._drop()
        self._answers.start()
        if self._connected:
            # Bytes behind the body before answer no question of ours: they are no status line.
            await self._link.send(request)
        else:
            await self._link.connect(self._host, self._port, request, _RANGE_MS)
            self._connected = True
        await self._head(b"bytes " + wanted + ("/%d" % self._total).encode(), last + 1 - self._at)
        self._left = last + 1 - self._at

    async def _head(self, span: bytes, length: int) -> None:
        """Read the status line and the headers of the answer to a request for this range."""
        status = await self._answers.status()
        if status != b"206":
            raise PeerError("https-status", "the server answers %s" % status.decode())
        found = {b"content-range": 0, b"content-length": 0}

        def check_header(name: bytes, value: bytes) -> None:
            if name not in found:
                raise PeerError("https-malformed", "a body in a form that was not asked for")
            found[name] += 1
            if value != (span if name == b"content-range" else str(length).encode()):
                raise PeerError("https-range", "another range or length than was asked for")

        await self._answers.headers(_CHECKED, check_header)
        if list(found.values()) != [1, 1]:
            raise PeerError("https-range", "a range that does not say which one")
