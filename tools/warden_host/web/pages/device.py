"""One device: what the fleet knows of it, and commands with their verdicts."""

import secrets
from collections import OrderedDict
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from warden_host import jsontext
from warden_host.control_client import MAX_LINE
from warden_host.errors import HostError
from warden_host.web.authority import Line
from warden_host.web.guard import form_token, is_form_token
from warden_host.web.site import Site, refusal

_DEPTH = 16
_MOST_VERDICTS = 64  # that are kept for the page that shows them
_NOTHING_ASKED = {"app": "", "command": "", "args": "", "forge": ""}


class DevicePages:
    """A device's page, and its forms."""

    def __init__(self, site: Site) -> None:
        self._site = site
        # By the ID in the page's address: the form token of the session, and the verdict.
        self._verdicts: OrderedDict[str, tuple[str, Line]] = OrderedDict()

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/device/{device}", self.show),
            Route("/device/{device}/command", self.command, methods=["POST"]),
            Route("/device/{device}/unlock", self.unlock, methods=["POST"]),
            Route("/device/{device}/clear", self.clear, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show the device, and the verdict of the form that led here."""
        session, device = self._site.session(request), request.path_params["device"]
        token, verdict = self._verdicts.get(request.query_params.get("verdict", ""), ("", None))
        if verdict is not None and not is_form_token(session, token):
            verdict = None
        found = await self._site.authority.call(
            {"op": "show", "session": session, "device": device}
        )
        return await self._site.page(
            session,
            "device.html",
            title=device,
            found=found,
            verdict=verdict,
            asked=_NOTHING_ASKED if verdict is None else verdict["asked"],
        )

    async def command(self, request: Request) -> Response:
        """Send a command, or a forgery of it."""
        session, fields = await self._site.form(request)
        asked = {key: fields.get(key, "") for key in ("app", "command", "args", "forge")}
        try:
            args = jsontext.parse_object(asked["args"] or "{}", MAX_LINE // 4, depth=_DEPTH)
            answer = await self._site.authority.call(
                {
                    "op": "send",
                    "session": session,
                    "device": request.path_params["device"],
                    "command": asked["command"],
                    "app": asked["app"],
                    "args": args,
                    "forge": asked["forge"],
                }
            )
            verdict = {"ok": answer.get("ok") is True, "answer": answer}
        except HostError as error:
            verdict = refusal(error)
        return self._show_verdict(request, session, verdict | {"asked": asked})

    async def unlock(self, request: Request) -> Response:
        """Open the device's gate."""
        return await self._act(request, "unlock")

    async def clear(self, request: Request) -> Response:
        """Lift the device's quarantine."""
        return await self._act(request, "clear")

    async def _act(self, request: Request, operation: str) -> Response:
        session, _ = await self._site.form(request)
        device = request.path_params["device"]
        try:
            answer = await self._site.authority.call(
                {"op": operation, "session": session, "device": device}
            )
            verdict = {"ok": answer.get("ok") is True, "answer": answer}
        except HostError as error:
            verdict = refusal(error)
        asked = _NOTHING_ASKED | {"command": operation}
        return self._show_verdict(request, session, verdict | {"asked": asked})

    def _show_verdict(self, request: Request, session: str, verdict: Line) -> Response:
        """Lead the browser to a page that it may load again: that sends no command twice."""
        key = secrets.token_urlsafe(9)
        self._verdicts[key] = form_token(session), verdict
        if len(self._verdicts) > _MOST_VERDICTS:
            self._verdicts.popitem(last=False)
        device = quote(request.path_params["device"], safe="")
        return RedirectResponse(f"/device/{device}?verdict={key}", 303)
