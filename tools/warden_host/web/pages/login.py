"""Log in and out."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from warden_host.errors import HostError
from warden_host.web.site import Site, read_fields

_MAX_PASSWORD = 512


class LoginPages:
    """The page before all others, and the way out."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/login", self.show),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Ask for name, password and code."""
        return self._site.render("login.html", title="Log in", name="", error="")

    async def log_in(self, request: Request) -> Response:
        """Begin a session."""
        fields = await read_fields(request)
        address = request.client.host if request.client else "?"
        try:
            answer = await self._site.authority.call(
                {
                    "op": "login",
                    "name": fields.get("name", "")[:32],
                    "password": fields.get("password", "")[:_MAX_PASSWORD],
                    "code": fields.get("code", "").replace(" ", "")[:16],
                    "address": address,
                }
            )
        except HostError as error:
            name = fields.get("name", "")
            return self._site.refused(error, "login.html", title="Log in", name=name)
        response = RedirectResponse("/", 303)
        self._site.begin_session(response, answer["session"])
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        session, _ = await self._site.form(request)
        await self._site.authority.call({"op": "logout", "session": session})
        response = RedirectResponse("/login", 303)
        self._site.end_session(response)
        return response
