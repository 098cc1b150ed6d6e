"""The API over HTTP: devices, events and commands."""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from warden_host import jsontext
from warden_host.errors import HostError
from warden_host.numerals import decimal
from warden_host.web.admission import address_of
from warden_host.web.api import document
from warden_host.web.api.answers import command_answer, command_fields
from warden_host.web.api.cors import Cors
from warden_host.web.api.problems import failed
from warden_host.web.api.stream import Stream
from warden_host.web.authority import Authority, Line
from warden_host.web.guard import MAX_BODY, App

_DEPTH = 12  # of a body; a device takes 8 levels of arguments
_MARKS = 4096
_MAX_NUMBER = 1 << 53  # of an event


def api(authority: Authority) -> App:
    """Return the application below /api/v1."""
    handlers = Handlers(authority)
    shared: dict[Any, Any] = {each: failed for each in (HostError, HTTPException, Exception)}
    inner = Starlette(
        routes=[
            Route("/openapi.json", handlers.document, methods=["GET"]),
            Route("/token", handlers.token, methods=["GET"]),
            Route("/devices", handlers.devices, methods=["GET"]),
            Route("/devices/{device}", handlers.device, methods=["GET"]),
            Route("/devices/{device}/events", handlers.events, methods=["GET"]),
            Route("/devices/{device}/commands", handlers.command, methods=["POST"]),
            Route("/events", handlers.upgrade, methods=["GET"]),
            WebSocketRoute("/events", Stream(authority).serve),
        ],
        exception_handlers=shared,
    )
    inner.router.redirect_slashes = False  # the document has no redirection
    return Cors(inner, authority)


class Handlers:
    """Pass each request on with its token. Raises what the authority answers."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def document(self, request: Request) -> Response:
        """Return the OpenAPI document; it takes no token."""
        return JSONResponse(document.DOCUMENT)

    async def token(self, request: Request) -> Response:
        """Return what the token is, and what it allows."""
        return await self._answer(request, "token", {})

    async def devices(self, request: Request) -> Response:
        """Return a page of the devices."""
        fields: Line = {"after": _text(request, "after")} if _text(request, "after") else {}
        return await self._answer(request, "devices", fields | _limit(request))

    async def device(self, request: Request) -> Response:
        """Return one device."""
        return await self._answer(request, "device", request.path_params)

    async def events(self, request: Request) -> Response:
        """Return a page of a device's events."""
        fields = request.path_params | _limit(request) | _number(request, "before", _MAX_NUMBER)
        return await self._answer(request, "events", fields)

    async def command(self, request: Request) -> Response:
        """Send a command; return the device's answer."""
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind.strip().lower() != "application/json":
            raise HTTPException(415, "a command is application/json")
        given = jsontext.parse_object(await request.body(), MAX_BODY, "bad-json", _DEPTH, _MARKS)
        found = await self._call(request, "command", command_fields(given) | request.path_params)
        return JSONResponse(command_answer(found))

    async def upgrade(self, request: Request) -> Response:
        """Say that events come by a WebSocket."""
        headers = {"Upgrade": "websocket"}
        raise HTTPException(426, "this is a WebSocket: docs/api.md", headers)

    async def _answer(self, request: Request, operation: str, fields: Line) -> Response:
        return JSONResponse(await self._call(request, operation, fields))

    async def _call(self, request: Request, operation: str, fields: Line) -> Line:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise HostError("token-missing", "the request carries no token")
        return await self._authority.call(
            {
                "op": f"api-{operation}",
                "bearer": token,
                "address": address_of(request.scope),
                "origin": request.headers.get("origin", ""),
            }
            | fields
        )


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")


def _limit(request: Request) -> Line:
    return _number(request, "limit", 999_999)


def _number(request: Request, name: str, most: int) -> Line:
    """Return a parameter that is a number, if it is given. Raises bad-argument."""
    text = _text(request, name)
    if not text:
        return {}
    number = decimal(text, most)
    if number is None:
        raise HostError("bad-argument", f"{name} is no number")
    return {name: number}
