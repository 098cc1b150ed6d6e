"""A device's gate: its one-time code, the application's ID, a valid and an invalid command."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warden_host.errors import HostError
from warden_host.web.asked import UNASKED
from warden_host.web.site import Site, refusal


class OtpPages:
    """The story of the broker application, with what this fleet really does."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/device/{device}/story", self.show),
            Route("/device/{device}/story", self.act, methods=["POST"]),
            Route("/device/{device}/gate", self.gate),
            Route("/device/{device}/code", self.code, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show how far the device is on the way from its start to an obeyed command."""
        session, device = self._site.session(request), request.path_params["device"]
        found = await self._site.authority.call(
            {"op": "show", "session": session, "device": device}
        )
        otp = await self._site.authority.call({"op": "otp", "session": session, "device": device})
        return await self._site.page(
            session,
            "story.html",
            title=f"{device}: code, ID, command",
            found=found,
            otp=otp,
            verdict=self._site.verdict(request, session),
        )

    async def gate(self, request: Request) -> Response:
        """Return the part of the page about the gate, which a script asks for by itself."""
        session, device = self._site.session(request), request.path_params["device"]
        otp = await self._site.authority.call({"op": "otp", "session": session, "device": device})
        return self._site.render("gate.html", otp=otp)

    async def act(self, request: Request) -> Response:
        """Send a command with the application's ID, or with a wrong one."""
        session, fields = await self._site.form(request)
        device = request.path_params["device"]
        forge = "wrong-id" if fields.get("valid") == "no" else ""
        asked = {key: fields.get(key, "") for key in ("app", "command")} | {"forge": forge}
        verdict = await self._site.act(session, op="send", device=device, args={}, **asked)
        address = f"/device/{quote(device, safe='')}/story"
        return self._site.lead(session, address, verdict | {"asked": asked})

    async def code(self, request: Request) -> Response:
        """Show the code of the device that is valid now, until it is not.

        The code is in this answer alone: it is not kept for a page that can be loaded again, and
        the browser leaves the page when the code ends, with a script or without.
        """
        session, _ = await self._site.form(request)
        device = request.path_params["device"]
        address = f"/device/{quote(device, safe='')}/story"
        try:
            found = await self._site.authority.call(
                {"op": "code", "session": session, "device": device}
            )
        except HostError as error:
            return self._site.lead(session, address, refusal(error))
        following = f"{address}?{UNASKED}"  # the browser goes there by itself
        response = await self._site.page(
            session,
            "code.html",
            title=f"Code of {device}",
            found=found,
            back=address,
            next=following,
        )
        response.headers["refresh"] = f"{max(1, found['left'])};url={following}"
        return response
