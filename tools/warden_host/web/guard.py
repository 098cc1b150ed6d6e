"""What every request meets first: the host's name, the size of a body, its origin; and headers.

A page of another origin can't read the console (no CORS), can't send to it with the session's
cookie (SameSite=Strict), and a form without the session's own token is refused. A name that leads
here by DNS rebinding is not the host's.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from warden_host.control_client import now_mark

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 16384
# When the request began, as `watch` takes it: what happens from then on is not in its page.
began: ContextVar[int] = ContextVar("began", default=0)
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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        began.set(now_mark())

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        status = self._refusal(scope)
        if status:
            await answer(with_headers, status)
            return
        await self._app(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> int:
        """Return the status with which the request is refused, or 0."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        host = headers.get(b"host", [])
        if len(host) != 1 or host[0].decode("latin-1").lower() not in self._hosts:
            return 421
        if scope["method"] in ("GET", "HEAD"):
            return 0
        if scope["method"] != "POST":
            return 405
        size = headers.get(b"content-length", [b""])[0]
        if not size.isdigit() or len(size) > 9 or b"transfer-encoding" in headers:
            return 411
        if int(size) > MAX_BODY:
            return 413
        origin = headers.get(b"origin", [])
        if [one.decode("latin-1").lower() for one in origin] != [
            self._origin + host[0].decode("latin-1").lower()
        ]:
            return 403
        return 0


async def answer(send: Send, status: int) -> None:
    """Answer with a status alone, and end the connection."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-length", b"0"), (b"connection", b"close")],
        }
    )
    await send({"type": "http.response.body", "body": b""})
