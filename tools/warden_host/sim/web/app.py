"""The page, what it asks for, and what it does to the boards."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from warden_host import jsontext
from warden_host.errors import HostError
from warden_host.numerals import decimal
from warden_host.sim import flash_files
from warden_host.sim.web.device import SimulatedBoard
from warden_host.sim.web.sessions import Sessions
from warden_host.web import server
from warden_host.web.guard import MAX_BODY, App, Guard

_HERE = Path(__file__).parent / "static"
_CONSOLE = Path(server.__file__).parent / "static"  # its style sheet
_DEPTH = 3
_SCHEME = "Bearer"
_MAX_AFTER = 8192  # digits
MOST_STREAMS = 32
_TOGETHER_S = 0.03  # changes within it are sent as one
_QUIET_S = 5.0  # then the clocks are sent again

Order = Callable[[SimulatedBoard, dict[str, Any]], None]


class News:
    """Wakes all that wait for a change. ended: the streams end with the next one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.ended = False

    def tell(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Return what the next change sets."""
        return self._event


class Pages:
    """The routes. boards: in the order in which they are shown."""

    def __init__(self, boards: Iterable[SimulatedBoard], sessions: Sessions, news: News) -> None:
        self._boards = {board.name: board for board in boards}
        self._sessions = sessions
        self._news = news
        self._streams = 0

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", self.page),
            Route("/enter", self.enter, methods=["POST"]),
            Route("/live", self.live),
            Route("/board/{board}/flash", self.flash),
            Route("/board/{board}/flash{path:path}", self.flash_file),
            Route("/board/{board}/{order}", self.order, methods=["POST"]),
            Mount("/console", StaticFiles(directory=_CONSOLE)),
            Mount("/static", StaticFiles(directory=_HERE)),
        ]

    async def page(self, request: Request) -> Response:
        """Return the page, which shows nothing of a board by itself."""
        return FileResponse(_HERE / "simulator.html")

    async def enter(self, request: Request) -> Response:
        """Give a session for the key of the link."""
        key = (await _object(request)).get("key")
        token = self._sessions.enter(key) if isinstance(key, str) else ""
        if not token:
            raise HTTPException(401, "this link was used, or is of another run")
        return JSONResponse({"session": token})

    async def live(self, request: Request) -> Response:
        """Server-sent events: first all of each board, then what changes."""
        self._check(request)
        if self._streams >= MOST_STREAMS:
            raise HTTPException(503, "there are too many pages")
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            seen: dict[tuple[str, str], int] = {}
            while not self._news.ended:
                changed = self._news.next()
                for board in self._boards.values():
                    for change in _news(board, seen):
                        yield b"data: " + json.dumps(change).encode() + b"\n\n"
                try:
                    await asyncio.wait_for(changed.wait(), _QUIET_S)
                except TimeoutError:
                    for name in self._boards:
                        seen.pop((name, "clock"), None)
                await asyncio.sleep(_TOGETHER_S)
        finally:
            self._streams -= 1

    async def flash(self, request: Request) -> Response:
        """List a page of the files of a board's flash. after: the `next` of the page before."""
        board = self._board(request)
        after = request.query_params.get("after", "")
        try:
            begin = bytes.fromhex(after) if len(after) <= _MAX_AFTER else None
        except ValueError:
            begin = None
        if begin is None:
            raise HTTPException(400, "after is what the page before has as next")
        found, following = await asyncio.to_thread(flash_files.files, board.root, begin)
        rows = [[file.path, file.size, file.changed] for file in found]
        return JSONResponse({"files": rows, "next": following.hex()})

    async def flash_file(self, request: Request) -> Response:
        """Return some bytes of a file, as they are."""
        board = self._board(request)
        offset = decimal(request.query_params.get("from", "0"), 10**12 - 1)
        if offset is None:
            raise HTTPException(400, "from is a number of bytes")
        path = request.path_params["path"]
        data, size = flash_files.read(board.root, path, offset)
        return JSONResponse({"path": path, "size": size, "from": offset, "hex": data.hex()})

    async def order(self, request: Request) -> Response:
        """Do to a board what a person at it can do."""
        board = self._board(request)
        order = _ORDERS.get(request.path_params["order"])
        if order is None:
            raise HTTPException(404)
        order(board, await _object(request))
        return Response(status_code=204)

    def _board(self, request: Request) -> SimulatedBoard:
        self._check(request)
        board = self._boards.get(request.path_params["board"])
        if board is None:
            raise HTTPException(404)
        return board

    def _check(self, request: Request) -> None:
        """Refuse a request without a session's token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != _SCHEME or not self._sessions.knows(token):
            raise HTTPException(401, "open the link that the terminal shows")


def _news(board: SimulatedBoard, seen: dict[tuple[str, str], int]) -> Iterable[dict[str, Any]]:
    """Yield the parts of a board that changed since they were seen, and note them."""
    for part, show in board.parts().items():
        version = board.versions.get(part, 0)
        if seen.get((board.name, part)) != version:
            seen[(board.name, part)] = version
            yield {"board": board.name, "part": part, "is": show()}
    lines = board.log.after(seen.get((board.name, "log"), 0))
    if lines:
        seen[(board.name, "log")] = lines[-1].number
        yield {"board": board.name, "part": "log", "is": lines}


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise HostError("bad-argument", f"{name} is text")
    return value


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int:
        raise HostError("bad-argument", f"{name} is a whole number")
    return value


_ORDERS: dict[str, Order] = {
    "keys": lambda board, fields: board.press(_text(fields, "keys")),
    "on": lambda board, _: board.switch_on(),
    "off": lambda board, _: board.switch_off(),
    "cut": lambda board, fields: board.cut_after(_number(fields, "after")),
    "clock": lambda board, fields: board.shift_clock(_number(fields, "shift")),
    "network": lambda board, fields: board.switch_network(
        _text(fields, "mode"), _number(fields, "delay")
    ),
}


async def _object(request: Request) -> dict[str, Any]:
    return jsontext.parse_object(await request.body(), MAX_BODY, depth=_DEPTH)


async def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, HostError):
        return JSONResponse({"error": error.code, "text": error.text}, 400)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": "refused", "text": error.detail}, error.status_code)
    return JSONResponse({"error": "internal-error", "text": "an error in the simulator"}, 500)


def build(
    boards: Iterable[SimulatedBoard], sessions: Sessions, news: News, host: str, port: int
) -> App:
    """Return the application. host, port: where it listens."""
    handlers: dict[Any, Any] = {one: _failed for one in (HostError, HTTPException, Exception)}
    inner = Starlette(routes=Pages(boards, sessions, news).routes(), exception_handlers=handlers)
    return Guard(inner, server.host_names(host, port, False), False)
