"""The pages of the console."""

import json
import math
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from warden_host import jsontext
from warden_host.control_client import MAX_LINE
from warden_host.errors import HostError
from warden_host.web import shown
from warden_host.web.authority import Authority, Line
from warden_host.web.guard import App, Guard, form_token, is_form_token

HERE = Path(__file__).parent
_MAX_FIELDS = 12
_MAX_PASSWORD = 512
_DEPTH = 16
_MOST_VERDICTS = 64  # that are kept for the page that shows them
_NOTHING_ASKED = {"app": "", "command": "", "args": "", "forge": ""}
_STATUS = {
    "device-unknown": 404,
    "role-missing": 403,
    "login-refused": 401,
    "login-paused": 429,
    "not-serving": 503,
    "timed-out": 504,
}


class _Ended(Exception):
    """There is no session: log in."""


class Pages:
    """The routes. name: of the fleet, in the title. tls: whether cookies are for TLS alone."""

    def __init__(self, authority: Authority, name: str, tls: bool) -> None:
        self._authority = authority
        self._name = name
        self._tls = tls
        self._cookie = "__Host-warden" if tls else "warden"
        # By the ID in the page's address: the form token of the session, and the verdict.
        self._verdicts: OrderedDict[str, tuple[str, Line]] = OrderedDict()
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"moment": shown.moment, "ago": shown.ago, "body": shown.body}

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/login", self.log_in_page),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
            Route("/", self.fleet),
            Route("/log", self.log),
            Route("/audit", self.audit),
            Route("/device/{device}", self.device),
            Route("/device/{device}/command", self.command, methods=["POST"]),
            Route("/device/{device}/unlock", self.unlock, methods=["POST"]),
            Route("/device/{device}/clear", self.clear, methods=["POST"]),
            Route("/live", self.live),
            Route("/session", self.session),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]

    async def log_in_page(self, request: Request) -> Response:
        return self._render("login.html", title="Log in", name="", error="")

    async def log_in(self, request: Request) -> Response:
        fields = await _fields(request)
        address = request.client.host if request.client else "?"
        try:
            answer = await self._authority.call(
                {
                    "op": "login",
                    "name": fields.get("name", "")[:32],
                    "password": fields.get("password", "")[:_MAX_PASSWORD],
                    "code": fields.get("code", "").replace(" ", "")[:16],
                    "address": address,
                }
            )
        except HostError as error:
            page = {"title": "Log in", "name": fields.get("name", ""), "error": error.text}
            return self._render("login.html", _STATUS.get(error.code, 502), **page)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            self._cookie,
            answer["session"],
            path="/",
            secure=self._tls,
            httponly=True,
            samesite="strict",
        )
        return response

    async def log_out(self, request: Request) -> Response:
        session, _ = await self._form(request)
        await self._authority.call({"op": "logout", "session": session})
        response = RedirectResponse("/login", 303)
        response.delete_cookie(
            self._cookie, path="/", secure=self._tls, httponly=True, samesite="strict"
        )
        return response

    async def fleet(self, request: Request) -> Response:
        session = self._session(request)
        rows = []
        async for page in self._authority.lines({"op": "devices", "session": session}):
            rows += page.get("devices", [])
        counts: dict[str, int] = {}
        for row in rows:
            state = shown.state(row[2], row[3])
            counts[state] = counts.get(state, 0) + 1
        return await self._page(
            session, "fleet.html", title="Devices", rows=rows, counts=counts, state=shown.state
        )

    async def log(self, request: Request) -> Response:
        return await self._newest_first(request, "log", "Log")

    async def audit(self, request: Request) -> Response:
        return await self._newest_first(request, "audit", "Audit log")

    async def _newest_first(self, request: Request, operation: str, title: str) -> Response:
        session = self._session(request)
        lines = self._authority.lines({"op": operation, "session": session})
        rows = [line async for line in lines if "ok" not in line]
        return await self._page(session, f"{operation}.html", title=title, rows=rows[::-1])

    async def device(self, request: Request) -> Response:
        session, device = self._session(request), request.path_params["device"]
        token, verdict = self._verdicts.get(request.query_params.get("verdict", ""), ("", None))
        if verdict is not None and not is_form_token(session, token):
            verdict = None
        found = await self._authority.call({"op": "show", "session": session, "device": device})
        return await self._page(
            session,
            "device.html",
            title=device,
            found=found,
            verdict=verdict,
            asked=_NOTHING_ASKED if verdict is None else verdict["asked"],
        )

    async def command(self, request: Request) -> Response:
        session, fields = await self._form(request)
        asked = {key: fields.get(key, "") for key in ("app", "command", "args", "forge")}
        try:
            args = jsontext.parse_object(asked["args"] or "{}", MAX_LINE // 4, depth=_DEPTH)
            answer = await self._authority.call(
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
            verdict = _refusal(error)
        return self._show_verdict(request, session, verdict | {"asked": asked})

    async def unlock(self, request: Request) -> Response:
        return await self._act(request, "unlock")

    async def clear(self, request: Request) -> Response:
        return await self._act(request, "clear")

    async def live(self, request: Request) -> Response:
        """Server-sent events: what happens in the fleet."""
        session = self._session(request)
        events = self._authority.stream({"op": "watch", "session": session})
        first = await anext(events, None)  # a refusal is an answer of its own, not an event
        if first is None:
            raise HTTPException(503)

        async def lines() -> AsyncIterator[bytes]:
            try:
                yield _event(first)
                async for line in events:
                    yield _event(line)
            except HostError:
                pass  # the page connects again, and is told

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def session(self, request: Request) -> Response:
        """Tell a page whether its session stands: 204, or 401."""
        await self._authority.call({"op": "whoami", "session": self._session(request)})
        return Response(status_code=204)

    async def _act(self, request: Request, operation: str) -> Response:
        session, _ = await self._form(request)
        device = request.path_params["device"]
        try:
            answer = await self._authority.call(
                {"op": operation, "session": session, "device": device}
            )
            verdict = {"ok": answer.get("ok") is True, "answer": answer}
        except HostError as error:
            verdict = _refusal(error)
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

    async def _page(self, session: str, template: str, **values: Any) -> Response:
        who = await self._authority.call({"op": "whoami", "session": session})
        values |= who | {"token": form_token(session)}
        return self._render(template, **values)

    def _render(self, template: str, status: int = 200, **values: Any) -> Response:
        values = {"fleet_name": self._name, "operator": "", "roles": [], "token": ""} | values
        return HTMLResponse(self._templates.get_template(template).render(values), status)

    def _session(self, request: Request) -> str:
        session = request.cookies.get(self._cookie, "")
        if not session:
            raise _Ended
        return session

    async def _form(self, request: Request) -> tuple[str, dict[str, str]]:
        """Return the session and the fields of a form that belongs to it."""
        session = self._session(request)
        fields = await _fields(request)
        if not is_form_token(session, fields.get("token", "")):
            raise HTTPException(403, "this form is of another session: open the page again")
        return session, fields

    async def failed(self, request: Request, error: Exception) -> Response:
        """Answer with an error's page, or with the log-in."""
        if isinstance(error, _Ended) or getattr(error, "code", "") == "session-ended":
            if request.url.path in ("/live", "/session"):
                return Response(status_code=401)
            return RedirectResponse("/login", 303)
        if isinstance(error, HostError):
            status = _STATUS.get(error.code, 502)
            return self._render(
                "error.html", status, title="Not done", text=error.text, hint=error.hint
            )
        if isinstance(error, HTTPException):
            text = error.detail or "there is no such page"
            return self._render(
                "error.html", error.status_code, title="Not done", text=text, hint=""
            )
        return self._render(
            "error.html", 500, title="Not done", text="an error in the console", hint="report it"
        )


def _refusal(error: HostError) -> Line:
    """Return the verdict that an error gives. Raises it where the session has ended."""
    if error.code == "session-ended":
        raise error
    return {"ok": False, "code": error.code, "text": error.text, "hint": error.hint}


def build(path: Path, name: str, host: str, port: int, tls: bool) -> App:
    """Return the application. path: of the web socket. host, port: where it listens."""
    pages = Pages(Authority(path), name, tls)
    handlers: dict[Any, Any] = {
        each: pages.failed for each in (_Ended, HostError, HTTPException, Exception)
    }
    inner = Starlette(routes=pages.routes(), exception_handlers=handlers)
    names = {host, "localhost", "127.0.0.1"} if not tls else {host}
    shown_names = {f"[{one}]" if ":" in one else one for one in names}
    default = 443 if tls else 80
    hosts = {f"{one}:{port}" for one in shown_names} | (shown_names if port == default else set())
    return Guard(inner, frozenset(one.lower() for one in hosts), tls)


async def _fields(request: Request) -> dict[str, str]:
    """Return a form's fields; a field that comes twice, or a form too large, is refused."""
    try:
        text = (await request.body()).decode()
        pairs = parse_qsl(text, True, True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise HTTPException(400, "the form is of another kind") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise HTTPException(400, "the form has a field twice")
    return fields


def _event(line: Line) -> bytes:
    return b"data: " + json.dumps(_finite(line)).encode() + b"\n\n"


def _finite(value: Any) -> Any:
    """JSON in a browser knows no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value
