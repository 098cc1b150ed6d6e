"""Releases, and the rollouts that bring them to devices."""

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warden_host.numerals import decimal
from warden_host.web.authority import Line
from warden_host.web.site import Site, page_number

_ACTIONS = {"stop": "rollout-stop", "resume": "rollout-resume"}


class _Number(IntegerConvertor):
    """A rollout's number: of more digits than Python reads it would be an error of the console."""

    regex = "[0-9]{1,15}"


register_url_convertor("rollout", _Number())


class UpdatePages:
    """The pages about updates."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/releases", self.releases),
            Route("/rollouts", self.rollouts),
            Route("/rollouts", self.start, methods=["POST"]),
            Route("/rollout/{number:rollout}", self.rollout),
            Route("/rollout/{number:rollout}/live", self.live),
            Route("/rollout/{number:rollout}/{action}", self.act, methods=["POST"]),
        ]

    async def releases(self, request: Request) -> Response:
        """Show a page of the releases."""
        return await self._site.shown(
            request, "releases.html", "Releases", op="releases", page=page_number(request)
        )

    async def rollouts(self, request: Request) -> Response:
        """Show a page of the rollouts, and the form that starts one."""
        return await self._site.shown(
            request, "rollouts.html", "Rollouts", op="rollouts", page=page_number(request)
        )

    async def rollout(self, request: Request) -> Response:
        """Show a rollout with a page of its devices."""
        number = request.path_params["number"]
        return await self._site.shown(
            request,
            "rollout.html",
            f"Rollout {number}",
            op="rollout-page",
            rollout=number,
            page=page_number(request),
        )

    async def live(self, request: Request) -> Response:
        """Server-sent events: each change of a rollout."""
        session = self._site.session(request)
        number = request.path_params["number"]
        return await self._site.events(
            {"op": "rollout-watch", "session": session, "rollout": number}
        )

    async def start(self, request: Request) -> Response:
        """Start a rollout, which goes on without a page that shows it."""
        session, fields = await self._site.form(request)
        target = fields.get("target", "").strip()
        kind = fields.get("kind", "")
        verdict = await self._site.act(
            session,
            op="rollout",
            release=fields.get("release", "").strip(),
            devices=target.replace(",", " ").split() if kind == "devices" else [],
            type=target if kind == "type" else "",
            group=target if kind == "group" else "",
            percent=decimal(fields.get("percent", "100"), 100) or 0,
            waves=fields.get("waves", "").strip() or "100%",
            max_failures=fields.get("failures", "").strip() or "10%",
        )
        return self._lead(session, "/rollouts", verdict)

    async def act(self, request: Request) -> Response:
        """Stop or resume a rollout."""
        session, _ = await self._site.form(request)
        number, action = request.path_params["number"], request.path_params["action"]
        if action not in _ACTIONS:
            raise HTTPException(404)
        verdict = await self._site.act(session, op=_ACTIONS[action], rollout=number)
        return self._lead(session, f"/rollout/{number}", verdict)

    def _lead(self, session: str, otherwise: str, verdict: Line) -> Response:
        """Lead to the page of the rollout that an answer is about."""
        number = verdict["answer"].get("rollout") if verdict["ok"] else None
        if number is not None:
            shown = {
                key: verdict["answer"][key] for key in ("left_out",) if key in verdict["answer"]
            }
            verdict = {"ok": True, "answer": {"rollout": number} | shown}
        address = otherwise if number is None else f"/rollout/{number}"
        return self._site.lead(session, address, verdict)
