"""The fleet as a whole: its devices, its log, its audit log, and what happens live."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warden_host.numerals import decimal
from warden_host.web.site import Site, begin_of, page_number

_MAX_SEARCH = 32
_ROWS = 100  # of a page of a log

_MAX_MARK = 10**16 - 1
_MAX_NAME = 64


class FleetPages:
    """Pages that show, and change nothing."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/", self.devices),
            Route("/log", self.log),
            Route("/audit", self.audit),
            Route("/live", self.live),
            Route("/session", self.session),
        ]

    async def devices(self, request: Request) -> Response:
        """List a page of the devices that are searched for, with their states."""
        search, state, group = (
            request.query_params.get(key, "")[:_MAX_SEARCH] for key in ("search", "state", "group")
        )
        return await self._site.shown(
            request,
            "fleet.html",
            "Devices",
            op="device-page",
            search=search,
            state=state,
            group=group,
            page=page_number(request),
        )

    async def log(self, request: Request) -> Response:
        """Show a page of the fleet's log."""
        return await self._newest_first(request, "log", "Log")

    async def audit(self, request: Request) -> Response:
        """Show a page of the audit log."""
        return await self._newest_first(request, "audit", "Audit log")

    async def _newest_first(self, request: Request, operation: str, title: str) -> Response:
        session, begin = self._site.session(request), begin_of(request)
        asked = {"op": operation, "session": session, "begin": begin, "count": _ROWS}
        *rows, last = [line async for line in self._site.authority.lines(asked)]
        return await self._site.page(
            session, f"{operation}.html", title=title, rows=rows, next=last["next"], begin=begin
        )

    async def live(self, request: Request) -> Response:
        """Server-sent events: what happens in the fleet, or at a device, after a page's mark."""
        session = self._site.session(request)
        asked: dict[str, Any] = {"op": "watch", "session": session, "batched": True}
        after = request.query_params.get("after", "")
        if after:
            mark = decimal(after, _MAX_MARK)
            if mark is None:
                raise HTTPException(400, "after is no mark of a page")
            asked["after"] = mark
        return await self._site.events(
            asked | {"device": request.query_params.get("device", "")[:_MAX_NAME]}
        )

    async def session(self, request: Request) -> Response:
        """Tell a page whether its session stands: 204, or 401."""
        session = self._site.session(request)
        await self._site.authority.call({"op": "whoami", "session": session})
        return Response(status_code=204)
