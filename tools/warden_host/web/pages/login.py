"""Log in and out: by name, password and code, or by a passkey."""

import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from warden_host.errors import HostError
from warden_host.web.admission import address_of
from warden_host.web.site import Site, read_fields, read_object

_MAX_PASSWORD = 512
_BOUND_SIZE = 32
_BOUND_S = 300
_BROWSER_S = 90 * 86_400
_MAX_TO = 16
_AFTER = {"account": "/account"}  # where a log-in leads that was asked for there


class LoginPages:
    """The page before all others, the page for a passkey's code, and the way out."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/login", self.show),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
            Route("/passkey", self.show_code),
            Route("/passkey/ask", self.ask_passkey, methods=["POST"]),
            Route("/passkey/login", self.log_in_by_passkey, methods=["POST"]),
            Route("/passkey/code", self.ask_by_code, methods=["POST"]),
            Route("/passkey/register", self.register_by_code, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Ask for name, password and code, or for a passkey."""
        return self._site.render(
            "login.html",
            title="Log in",
            name="",
            error="",
            passkeys=self._site.passkeys(request),
            to=request.query_params.get("to", "")[:_MAX_TO],
        )

    async def show_code(self, request: Request) -> Response:
        """Ask for the code with which an operator registers the first passkey."""
        passkeys = self._site.passkeys(request)
        return self._site.render("passkey.html", title="Register a passkey", passkeys=passkeys)

    async def log_in(self, request: Request) -> Response:
        """Begin a session."""
        fields = await read_fields(request)
        try:
            answer = await self._site.authority.call(
                {
                    "op": "login",
                    "name": fields.get("name", "")[:32],
                    "password": fields.get("password", "")[:_MAX_PASSWORD],
                    "code": fields.get("code", "").replace(" ", "")[:16],
                    "address": address_of(request.scope),
                    "before": self._site.cookie(request),
                    "browser": self._site.cookie(request, "browser"),
                }
            )
        except HostError as error:
            return self._site.refused(
                error,
                "login.html",
                title="Log in",
                name=fields.get("name", ""),
                passkeys=self._site.passkeys(request),
                to=fields.get("to", "")[:_MAX_TO],
            )
        response = RedirectResponse(_AFTER.get(fields.get("to", ""), "/"), 303)
        self._site.begin_session(response, answer["session"])
        self._site.set_cookie(response, "browser", answer["browser"], _BROWSER_S)
        return response

    async def ask_passkey(self, request: Request) -> Response:
        """Return the question to a passkey, for this browser alone."""
        bound = secrets.token_urlsafe(_BOUND_SIZE)
        answer = await self._call(request, {"op": "passkey-ask", "bound": bound})
        response = JSONResponse(answer, 200 if "options" in answer else 403)
        self._site.set_cookie(response, "bound", bound, _BOUND_S)
        return response

    async def log_in_by_passkey(self, request: Request) -> Response:
        """Begin a session by what a passkey signed."""
        asked = await read_object(request)
        bound = self._site.cookie(request, "bound")[:64]
        answer = await self._call(
            request,
            {
                "op": "passkey-login",
                "bound": bound,
                "before": self._site.cookie(request),
                "credential": asked.get("credential"),
            },
        )
        if "session" not in answer:
            return JSONResponse(answer, 403)
        response = JSONResponse({"to": _AFTER.get(str(asked.get("to", "")), "/")})
        self._site.begin_session(response, answer["session"])
        self._site.set_cookie(response, "bound", "", 0)
        return response

    async def ask_by_code(self, request: Request) -> Response:
        """Return the question for a new passkey, to one who has the code."""
        return await self._by_code(request, "passkey-code")

    async def register_by_code(self, request: Request) -> Response:
        """Register the passkey."""
        return await self._by_code(request, "passkey-add-by-code")

    async def _by_code(self, request: Request, operation: str) -> Response:
        asked = await read_object(request)
        fields = {key: str(asked.get(key, ""))[:32] for key in ("name", "code", "label")}
        line = {"op": operation, "credential": asked.get("credential"), **fields}
        answer = await self._call(request, line)
        if "error" in answer:
            return JSONResponse(answer, 403)
        return JSONResponse(answer | {"to": "/login"})

    async def _call(self, request: Request, line: dict[str, Any]) -> dict[str, Any]:
        """Return the authority's answer, or what it refused, for the script."""
        try:
            return await self._site.authority.call(line | {"address": address_of(request.scope)})
        except HostError as error:
            return {"error": error.text}

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        session, _ = await self._site.form(request)
        await self._site.authority.call({"op": "logout", "session": session})
        response = RedirectResponse("/login", 303)
        self._site.end_session(response)
        return response
