"""What every request meets first: the host's name, the size of a body, its origin; and headers.

A page of another origin can't read the console (no CORS), can't send to it with the session's
cookie (SameSite=Strict), and a form without the session's own token is refused. A name that leads
here by DNS rebinding is not the host's.
"""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from warden_host.control_client import now_mark
from warden_host.numerals import decimal
from warden_host.web.api.problems import http_problem
from warden_host.web.asked import UNASKED, began, unasked

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 16384
API = "/api/v1"
EVENTS = API + "/events"
_TEXTS = {
    403: "the request names several origins",
    405: "there is no such method",
    411: "a body needs its length before it",
    413: f"a body has {MAX_BODY} bytes at most",
    421: "the console has another host name",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with no-referrer a form's Origin is null
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), usb=(), serial=()"),
]
_HSTS = (b"strict-transport-security", b"max-age=31536000")


def form_token(session: str) -> str:
    """Return the token that a session's forms carry; it tells nothing of the session."""
    return hmac.new(session.encode(), b"warden console form", hashlib.sha256).hexdigest()


def is_form_token(session: str, token: str) -> bool:
    """Return whether a form belongs to the session; takes the same time for each token."""
    return hmac.compare_digest(form_token(session).encode(), token.encode())


class Guard:
    """Refuse what no page of ours sends; add the headers to each answer.

    hosts: "NAME" and "NAME:PORT" that requests may be for.
    """

    def __init__(self, app: App, hosts: frozenset[str], tls: bool) -> None:
        self._app = app
        self._hosts = hosts
        self._origin = "https://" if tls else "http://"
        self._headers = [*_HEADERS, _HSTS] if tls else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._guard_websocket(scope, receive, send)
            return

        began.set(now_mark())
        unasked.set(is_unasked(scope))

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        status = self._refusal(scope)
        if status:
            await answer(with_headers, status, is_of_api(scope))
            return
        await self._app(scope, receive, with_headers)

    async def _guard_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a WebSocket of the API on. Its origin is looked at there, as of each request."""
        if scope["path"] != EVENTS or not self._is_host(_by_name(scope)):
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)

    def _is_host(self, headers: dict[bytes, list[bytes]]) -> bool:
        host = headers.get(b"host", [])
        return len(host) == 1 and host[0].decode("latin-1").lower() in self._hosts

    def _refusal(self, scope: Scope) -> int:
        """Return the status with which the request is refused, or 0."""
        headers = _by_name(scope)
        if not self._is_host(headers):
            return 421
        of_api = is_of_api(scope)
        if of_api and len(headers.get(b"origin", [])) > 1:
            return 403
        if scope["method"] in ("GET", "HEAD"):
            return 403 if _is_embedded(headers) and not of_api else 0
        if of_api and scope["method"] == "OPTIONS":
            return 0
        if scope["method"] != "POST":
            return 405
        size = decimal(headers.get(b"content-length", [b""])[0], 999_999_999)
        if size is None or b"transfer-encoding" in headers:
            return 411
        if size > MAX_BODY:
            return 413
        if of_api:  # no cookie counts there: the token does, and its own origins
            return 0
        host, origin = headers[b"host"], headers.get(b"origin", [])
        if [one.decode("latin-1").lower() for one in origin] != [
            self._origin + host[0].decode("latin-1").lower()
        ]:
            return 403
        return 0


def is_unasked(scope: Scope) -> bool:
    """Return whether no person asks for it: a script of a page, or a browser ahead of a click.

    A page of another port is of the same site, so a browser sends the cookie with its navigations:
    it could keep a session from its end. A form is of our own pages, and takes a click.
    """
    if scope["method"] == "POST":
        return False
    headers = _by_name(scope)
    return (
        UNASKED.encode() in scope["query_string"].split(b"&")
        or headers.get(b"sec-fetch-mode", [b"navigate"]) != [b"navigate"]
        or not _is_own(headers)
        or b"sec-purpose" in headers
    )


def is_of_api(scope: Scope) -> bool:
    """Return whether a request is for the API."""
    return bool(scope["path"].startswith(API + "/"))


def _by_name(scope: Scope) -> dict[bytes, list[bytes]]:
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    return headers


def _is_embedded(headers: dict[bytes, list[bytes]]) -> bool:
    """Return whether a page of elsewhere loads this into itself: another port is elsewhere."""
    is_page = headers.get(b"sec-fetch-mode") == [b"navigate"]
    return not is_page and not _is_own(headers)


def _is_own(headers: dict[bytes, list[bytes]]) -> bool:
    """Return whether our own page asks, or the browser for its user, as far as that tells."""
    sites = headers.get(b"sec-fetch-site", [])
    return all(site in (b"same-origin", b"none") for site in sites)


async def answer(send: Send, status: int, of_api: bool = False) -> None:
    """Answer with a status, and end the connection. of_api: with a problem as the body."""
    headers = [(b"connection", b"close")]
    body = b""
    if of_api:
        body = json.dumps(http_problem(status, _TEXTS[status])).encode()
        headers.append((b"content-type", b"application/problem+json"))
    if status == 405:
        headers.append((b"allow", b"GET, HEAD, POST"))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
