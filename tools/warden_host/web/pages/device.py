"""One device: what the fleet knows of it, its history, and commands with their verdicts."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from warden_host import jsontext
from warden_host.control_client import MAX_LINE
from warden_host.errors import HostError
from warden_host.web.assets import plots_there
from warden_host.web.authority import Line
from warden_host.web.site import Site, begin_of, refusal

_DEPTH = 16
_NOTHING_ASKED = {"app": "", "command": "", "args": "", "forge": ""}
_FORGERY_S = 5  # for an answer to each of them, beside what a device pauses between reports
# Forgery → why a device refuses it.
_WHY = {
    "wrong-id": "well formed, and sealed by a sender that the device does not know",
    "tamper": "one bit was changed on the way: the seal does not fit",
    "replay": "sent a second time: its counter was used",
    "old-session": "sealed for the session before: its keys are gone",
    "plain": "not sealed, to a device that takes sealed commands alone",
}


class DevicePages:
    """A device's page, and its forms."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/device/{device}", self.show),
            Route("/device/{device}/history", self.history),
            Route("/device/{device}/telemetry", self.telemetry),
            Route("/device/{device}/command", self.command, methods=["POST"]),
            Route("/device/{device}/forgeries", self.forgeries, methods=["POST"]),
            Route("/device/{device}/unlock", self.unlock, methods=["POST"]),
            Route("/device/{device}/clear", self.clear, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show the device, and the verdict of the form that led here."""
        session, device = self._site.session(request), request.path_params["device"]
        verdict = self._site.verdict(request, session)
        found = await self._site.authority.call(
            {"op": "show", "session": session, "device": device}
        )
        series, left_out = await self._series(session, device)
        return await self._site.page(
            session,
            "device.html",
            title=device,
            found=found,
            verdict=verdict,
            asked=_NOTHING_ASKED | ({} if verdict is None else verdict["asked"]),
            series=series,
            left_out=left_out,
            why=_WHY,
            plots=plots_there(),
        )

    async def history(self, request: Request) -> Response:
        """Show a page of what happened to the device."""
        device = request.path_params["device"]
        return await self._site.shown(
            request,
            "history.html",
            f"History of {device}",
            op="history",
            device=device,
            begin=begin_of(request),
        )

    async def telemetry(self, request: Request) -> Response:
        """Give the script of the page the numbers to plot."""
        session = self._site.session(request)
        series, _ = await self._series(session, request.path_params["device"])
        return JSONResponse(series)

    async def command(self, request: Request) -> Response:
        """Send a command, or a forgery of it."""
        session, fields = await self._site.form(request)
        asked = {key: fields.get(key, "") for key in ("app", "command", "args", "forge")}
        verdict = await self._send(request, session, asked)
        return self._show_verdict(request, session, verdict | {"asked": asked})

    async def forgeries(self, request: Request) -> Response:
        """Send the genuine command, then each forgery of it, and show the verdicts together."""
        session, fields = await self._site.form(request)
        asked = {key: fields.get(key, "") for key in ("app", "command", "args")}
        who = await self._site.authority.call({"op": "whoami", "session": session})
        if "own" not in who["roles"]:  # before the genuine command, which may take less
            missing = refusal(HostError("role-missing", "forgeries take the role own"))
            return self._show_verdict(request, session, missing | {"asked": asked})
        rows = []
        for forge in ("", *who["forgeries"]):
            verdict = await self._send(request, session, asked | {"forge": forge}, _FORGERY_S)
            rows.append(verdict | {"forge": forge})
            if not forge and "answer" not in verdict:
                break  # nothing reaches the device: a forgery would wait for nothing
        done = all(row["ok"] for row in rows)
        return self._show_verdict(request, session, {"ok": done, "rows": rows, "asked": asked})

    async def unlock(self, request: Request) -> Response:
        """Open the device's gate."""
        return await self._act(request, "unlock")

    async def clear(self, request: Request) -> Response:
        """Lift the device's quarantine."""
        return await self._act(request, "clear")

    async def _act(self, request: Request, operation: str) -> Response:
        session, _ = await self._site.form(request)
        device = request.path_params["device"]
        verdict = await self._site.act(session, op=operation, device=device)
        asked = _NOTHING_ASKED | {"command": operation}
        return self._show_verdict(request, session, verdict | {"asked": asked})

    async def _send(
        self, request: Request, session: str, asked: dict[str, str], timeout_s: int = 10
    ) -> Line:
        try:
            args = jsontext.parse_object(asked["args"] or "{}", MAX_LINE // 4, depth=_DEPTH)
        except HostError as error:
            # For a session alone: strangers would fill the place that verdicts have.
            await self._site.authority.call({"op": "whoami", "session": session})
            return refusal(error)
        return await self._site.act(
            session,
            op="send",
            device=request.path_params["device"],
            command=asked["command"],
            app=asked["app"],
            args=args,
            forge=asked["forge"],
            timeout=timeout_s,
        )

    async def _series(self, session: str, device: str) -> tuple[list[Line], int]:
        """Return the series of the device's numbers, and how many more there are."""
        lines = self._site.authority.lines(
            {"op": "telemetry", "session": session, "device": device}
        )
        found = [line async for line in lines]
        return found[:-1], found[-1]["left_out"] if found else 0

    def _show_verdict(self, request: Request, session: str, verdict: Line) -> Response:
        device = quote(request.path_params["device"], safe="")
        return self._site.lead(session, f"/device/{device}", verdict)
