"""Groups of devices: their lists, and changes of them."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warden_host.web.site import Site, page_number


class GroupPages:
    """The groups, and one group."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/groups", self.list),
            Route("/groups", self.change, methods=["POST"]),
            Route("/group/{group}", self.show),
        ]

    async def list(self, request: Request) -> Response:
        """Show a page of the groups."""
        return await self._site.shown(
            request, "groups.html", "Groups", op="groups", page=page_number(request)
        )

    async def show(self, request: Request) -> Response:
        """Show a page of a group's devices."""
        group = request.path_params["group"]
        return await self._site.shown(
            request,
            "group.html",
            f"Group {group}",
            op="group-page",
            group=group,
            page=page_number(request),
        )

    async def change(self, request: Request) -> Response:
        """Add devices to a group, or remove them; the first device makes a group."""
        session, fields = await self._site.form(request)
        group = fields.get("group", "")
        verdict = await self._site.act(
            session,
            op="group",
            group=group,
            devices=fields.get("devices", "").replace(",", " ").split(),
            remove=fields.get("remove") == "yes",
        )
        there = verdict["ok"] and verdict["answer"]["count"]
        address = f"/group/{quote(group, safe='')}" if there else "/groups"
        return self._site.lead(session, address, verdict)
