"""What the fleet did about attacks: incidents, reactions, bans, alarms."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warden_host.web.site import Site, page_number


class SafetyPages:
    """The pages about attacks."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/incidents", self.incidents),
            Route("/bans", self.bans),
            Route("/bans", self.change_bans, methods=["POST"]),
            Route("/alarms", self.alarms),
            Route("/alarms", self.test_alarms, methods=["POST"]),
        ]

    async def incidents(self, request: Request) -> Response:
        """Show a page of all devices' incidents, and what the fleet did by itself."""
        return await self._site.shown(
            request, "incidents.html", "Incidents", op="incidents", page=page_number(request)
        )

    async def bans(self, request: Request) -> Response:
        """Show a page of the bans."""
        return await self._site.shown(
            request, "bans.html", "Bans", op="ban-page", page=page_number(request)
        )

    async def change_bans(self, request: Request) -> Response:
        """Ban a network, or lift its ban."""
        session, fields = await self._site.form(request)
        networks = fields.get("network", "").replace(",", " ").split()
        if fields.get("lift") == "yes":
            verdict = await self._site.act(session, op="lift", networks=networks)
        else:
            why = fields.get("why", "")[:200]
            verdict = await self._site.act(session, op="ban", networks=networks, why=why)
        return self._site.lead(session, "/bans", verdict)

    async def alarms(self, request: Request) -> Response:
        """Show where alarms go, and those that wait."""
        return await self._site.shown(request, "alarms.html", "Alarms", op="alarms")

    async def test_alarms(self, request: Request) -> Response:
        """Send a test alarm to all who get alarms."""
        session, _ = await self._site.form(request)
        verdict = await self._site.act(session, op="alarms-test")
        return self._site.lead(session, "/alarms", verdict)
