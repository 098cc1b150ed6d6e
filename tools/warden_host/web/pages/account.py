"""An operator's own log-in: passkeys, and the sessions that there are."""

import time

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from warden_host.errors import HostError
from warden_host.web.authority import Line
from warden_host.web.guard import is_form_token
from warden_host.web.site import Site, read_object


class AccountPages:
    """The page, and its forms."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/account", self.show),
            Route("/account/passkey/ask", self.ask, methods=["POST"]),
            Route("/account/passkey/register", self.register, methods=["POST"]),
            Route("/account/passkey/remove", self.remove, methods=["POST"]),
            Route("/account/sessions/end", self.end_sessions, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """List the operator's passkeys and sessions."""
        session = self._site.session(request)
        found = await self._site.authority.call({"op": "account", "session": session})
        return await self._site.page(
            session,
            "account.html",
            title="Your log-in",
            found=found,
            now=time.time(),
            passkeys=self._site.passkeys(request),
        )

    async def ask(self, request: Request) -> Response:
        """Return the question for a new passkey."""
        return await self._answer(request, "passkey-new")

    async def register(self, request: Request) -> Response:
        """Register a passkey."""
        return await self._answer(request, "passkey-add")

    async def remove(self, request: Request) -> Response:
        """Remove a passkey; the sessions that began with it end."""
        session, fields = await self._site.form(request)
        line: Line = {"op": "passkey-remove", "session": session, "id": fields.get("id", "")}
        await self._site.authority.call(line)
        return RedirectResponse("/account", 303)

    async def end_sessions(self, request: Request) -> Response:
        """End one session, or all but this one."""
        session, fields = await self._site.form(request)
        line: Line = {"op": "sessions-end", "session": session, "id": fields.get("id", "")[:32]}
        await self._site.authority.call(line)
        return RedirectResponse("/account", 303)

    async def _answer(self, request: Request, operation: str) -> Response:
        """Answer the script, whose requests carry the session's token as forms do."""
        session = self._site.session(request)
        asked = await read_object(request)
        if not is_form_token(session, str(asked.get("token", ""))):
            raise HTTPException(403, "this is of another session: open the page again")
        line: Line = {
            "op": operation,
            "session": session,
            "label": str(asked.get("label", ""))[:32],
            "credential": asked.get("credential"),
        }
        try:
            answer = await self._site.authority.call(line)
        except HostError as error:
            if error.code == "session-ended":
                raise
            return JSONResponse({"error": f"{error.text}: {error.hint}"}, 403)
        return JSONResponse(answer | {"to": "/account"})
