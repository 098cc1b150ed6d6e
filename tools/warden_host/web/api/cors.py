"""Which web pages may call the API from a browser: those of origins that a token names.

A browser asks before it sends a token, and such a preflight carries none: it is allowed where any
token that is neither revoked nor ended names the page's origin. The request itself is then held
against its own token's origins (service/web_api.py). No answer allows cookies.
"""

import time
from collections import OrderedDict
from collections.abc import MutableMapping
from typing import Any

from starlette.responses import Response

from warden_host.errors import HostError
from warden_host.web.api.problems import answer, problem
from warden_host.web.authority import Authority
from warden_host.web.guard import App, Receive, Scope, Send

_KEEP_S = 2.0
_MOST_KEPT = 64
_MAX_ORIGIN = 256


class Cors:
    """Answer preflights, refuse other origins, and name the allowed one in each answer."""

    def __init__(self, app: App, authority: Authority) -> None:
        self._app = app
        self._authority = authority
        self._kept: OrderedDict[str, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin")
        if not origin:  # no browser, or a page of no origin's: the token decides
            await self._app(scope, receive, send)
            return
        try:
            allowed = await self._is_allowed(origin)
        except HostError as error:
            await _refuse(answer(problem(error)), scope, receive, send)
            return
        if not allowed:
            refused = HostError("origin-refused", "no token is for web pages of this origin")
            await _refuse(answer(problem(refused)), scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        named = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
        if scope["method"] == "OPTIONS":
            preflight = {
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": "Authorization, Content-Type",
                "Access-Control-Max-Age": "60",
            }
            named = [
                *named,
                *((key.lower().encode(), value.encode()) for key, value in preflight.items()),
            ]
        else:
            named.append((b"access-control-expose-headers", b"Retry-After"))

        async def with_origin(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *named]
            await send(message)

        if scope["method"] == "OPTIONS":
            await Response(status_code=204)(scope, receive, with_origin)
        else:
            await self._app(scope, receive, with_origin)

    async def _is_allowed(self, origin: str) -> bool:
        """Ask the authority. What it allows, counts for _KEEP_S: a refusal may end at once."""
        now = time.monotonic()
        if now - self._kept.get(origin, float("-inf")) < _KEEP_S:
            return True
        if len(origin) > _MAX_ORIGIN:
            return False
        found = await self._authority.call({"op": "api-origin", "origin": origin})
        if found.get("allowed") is not True:
            return False
        self._kept[origin] = now
        self._kept.move_to_end(origin)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return True


def header(scope: Scope, name: bytes) -> str:
    """Return a request's header, "" where there is none."""
    found = [value for key, value in scope["headers"] if key == name]
    return str(found[0].decode("latin-1")) if found else ""


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":  # uvicorn answers 403
        await send({"type": "websocket.close", "code": 1008})
    else:
        await response(scope, receive, send)
