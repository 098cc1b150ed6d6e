"""Ask `warden serve` on its web socket, without a thread."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from warden_host import jsontext
from warden_host.control_client import MAX_LINE, raised, short_path
from warden_host.errors import HostError
from warden_host.web.asked import unasked

_LIMIT = MAX_LINE * 4  # bytes of an answer's line
_DEPTH = 64
_CALL_S = 60.0
_ERROR = b'{"error": '  # how the line of an error begins, and no other

Line = dict[str, Any]


class Authority:
    """One call a connection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def call(self, request: Line) -> Line:
        """Return the first line of the answer. Raises not-serving, timed-out, what it answers."""
        async with contextlib.aclosing(self.lines(request)) as lines:
            async for line in lines:
                return line
        raise _gone()

    async def lines(self, request: Line) -> AsyncGenerator[Line, None]:
        """Yield the answer's lines, within a minute. Raises as call()."""
        try:
            async with (
                asyncio.timeout(_CALL_S),
                contextlib.aclosing(self.stream(request)) as found,
            ):
                async for line in found:
                    yield line
        except TimeoutError:
            raise HostError("timed-out", "`warden serve` gives no answer") from None

    async def stream(self, request: Line) -> AsyncGenerator[Line, None]:
        """Yield the answer's lines until it ends. Raises not-serving and what it answers."""
        async with contextlib.aclosing(self.raw(request)) as lines:
            async for data in lines:
                yield _parsed(data)

    async def raw(self, request: Line) -> AsyncGenerator[bytes, None]:
        """Yield the answer's lines as they came, ASCII alone. Raises as stream()."""
        if unasked.get():
            request = request | {"passive": True}
        try:
            with short_path(self._path) as short:
                reader, writer = await asyncio.open_unix_connection(short, limit=_LIMIT)
        except OSError:
            raise _gone() from None
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            while data := await reader.readline():
                if data.startswith(_ERROR) and isinstance(_parsed(data)["error"], dict):
                    raise raised(_parsed(data)["error"])
                yield data
        except (OSError, ValueError):
            raise _gone() from None
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _parsed(data: bytes) -> Line:
    return jsontext.parse_object(data, _LIMIT, "control-malformed", _DEPTH)


def _gone() -> HostError:
    return HostError("not-serving", "`warden serve` ended in the meantime")
