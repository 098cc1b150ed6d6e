"""What every page is made with: the session of its request, its form, its frame, its errors."""

import secrets
import string
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from warden_host import jsontext
from warden_host.errors import HostError
from warden_host.numerals import decimal
from warden_host.web import shown
from warden_host.web.asked import began
from warden_host.web.authority import Authority, Line
from warden_host.web.guard import MAX_BODY, form_token, is_form_token

TEMPLATES = Path(__file__).parent / "templates"
_MAX_FIELDS = 12
_MAX_COOKIE = 128  # characters: ours are shorter
_MOST_VERDICTS = 64  # that are kept for the pages that show them
MAX_PAGE = 1000
_MAX_BEGIN = 512
_OF_BEGIN = frozenset(string.ascii_lowercase + string.digits + ":_.+-")
_STATUS = {
    "device-unknown": 404,
    "group-unknown": 404,
    "rollout-unknown": 404,
    "role-missing": 403,
    "login-refused": 401,
    "login-stale": 403,
    "address-refused": 403,
    "bad-argument": 400,
    "bad-name": 400,
    "control-malformed": 400,
    "not-applicable": 409,
    "login-paused": 429,
    "not-serving": 503,
    "timed-out": 504,
}
_SILENT = (
    "/live",
    "/session",
    "/account/passkey/ask",
    "/account/passkey/register",
)  # a script asks for them: 401 instead of the log-in


class Ended(Exception):
    """There is no session: log in."""


class Site:
    """authority: whom pages ask. name: of the fleet, in the title. tls: of cookies.

    passkey_page: the address under which passkeys work, or "".
    """

    def __init__(self, authority: Authority, name: str, tls: bool, passkey_page: str) -> None:
        self.authority = authority
        self._name = name
        self._tls = tls
        self._passkey_page = passkey_page
        self._cookie = "__Host-warden" if tls else "warden"
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            finalize=shown.clean,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= shown.FILTERS
        self._explained: dict[str, str] | None = None  # code → what it means
        # By the ID in a page's address: the form token of the session, and the verdict.
        self._verdicts: OrderedDict[str, tuple[str, Line]] = OrderedDict()

    def session(self, request: Request) -> str:
        """Return the session of the request. Raises Ended."""
        session = request.cookies.get(self._cookie, "")
        if not session:
            raise Ended
        return session

    def passkeys(self, request: Request) -> str:
        """Return "here" where passkeys work under the host of the request, else where, or ""."""
        page = self._passkey_page
        return "here" if page and page == f"{request.url.scheme}://{request.url.netloc}/" else page

    def cookie(self, request: Request, kind: str = "") -> str:
        """Return the session's cookie, or one beside it; "" where there is none."""
        name = f"{self._cookie}-{kind}" if kind else self._cookie
        return request.cookies.get(name, "")[:_MAX_COOKIE]

    def set_cookie(self, response: Response, kind: str, value: str, seconds: int) -> None:
        """Set a cookie beside the session's; 0 seconds take it back."""
        response.set_cookie(
            f"{self._cookie}-{kind}",
            value,
            max_age=seconds,
            path="/",
            secure=self._tls,
            httponly=True,
            samesite="strict",
        )

    async def form(self, request: Request) -> tuple[str, dict[str, str]]:
        """Return the session and the fields of its form. Raises Ended, 400, 403."""
        session = self.session(request)
        fields = await read_fields(request)
        if not is_form_token(session, fields.get("token", "")):
            raise HTTPException(403, "this form is of another session: open the page again")
        return session, fields

    async def page(self, session: str, template: str, **values: Any) -> Response:
        """Return a page for the operator of the session; templates get its name and roles."""
        who = await self.authority.call({"op": "whoami", "session": session})
        frame = {"token": form_token(session), "explained": await self._meanings(session)}
        return self.render(template, **(values | who | frame))

    async def _meanings(self, session: str) -> dict[str, str]:
        """Return what each code means; it is asked for once."""
        if self._explained is None:
            lines = self.authority.lines({"op": "meanings", "session": session})
            self._explained = {one["code"]: one["means"] async for one in lines if "code" in one}
        return self._explained

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page that needs no session."""
        frame = {
            "fleet_name": self._name,
            "operator": "",
            "roles": [],
            "token": "",
            "explained": {},
        }
        values = frame | {"mark": began.get()} | values
        return HTMLResponse(self._templates.get_template(template).render(values), status)

    async def shown(self, request: Request, template: str, title: str, **asked: Any) -> Response:
        """Return a page with the authority's answer to `asked` as `found`, and the verdict."""
        session = self.session(request)
        found = await self.authority.call(asked | {"session": session})
        verdict = self.verdict(request, session)
        return await self.page(
            session, template, title=title, found=found, verdict=verdict, asked=asked
        )

    async def act(self, session: str, **asked: Any) -> Line:
        """Return the verdict of an action: {"ok", "answer"}, or what the authority refused."""
        try:
            answer = await self.authority.call(asked | {"session": session})
        except HostError as error:
            return refusal(error)
        return {"ok": answer.get("ok") is not False, "answer": answer}

    def lead(self, session: str, address: str, verdict: Line) -> Response:
        """Lead the browser to a page that it may load again: that does nothing twice."""
        key = secrets.token_urlsafe(9)
        self._verdicts[key] = form_token(session), verdict
        if len(self._verdicts) > _MOST_VERDICTS:
            self._verdicts.popitem(last=False)
        return RedirectResponse(f"{address}?verdict={key}", 303)

    def verdict(self, request: Request, session: str) -> Line | None:
        """Return the verdict of the form that led to this page, if it is of this session."""
        token, verdict = self._verdicts.get(request.query_params.get("verdict", ""), ("", None))
        return verdict if verdict is not None and is_form_token(session, token) else None

    async def events(self, request: dict[str, Any]) -> Response:
        """Return the lines of the authority's answer as server-sent events."""
        lines = self.authority.raw(request)
        first = await anext(lines, None)  # a refusal is an answer of its own, not an event
        if first is None:
            raise HTTPException(503)

        async def sent() -> AsyncIterator[bytes]:
            try:
                yield _event(first)
                async for line in lines:
                    yield _event(line)
            except HostError:
                pass  # the page connects again, and is told

        return StreamingResponse(sent(), media_type="text/event-stream")

    def begin_session(self, response: Response, session: str) -> None:
        """Give the browser its session."""
        response.set_cookie(
            self._cookie, session, path="/", secure=self._tls, httponly=True, samesite="strict"
        )

    def end_session(self, response: Response) -> None:
        """Take it back."""
        response.delete_cookie(
            self._cookie, path="/", secure=self._tls, httponly=True, samesite="strict"
        )

    def refused(self, error: HostError, template: str, **values: Any) -> Response:
        """Return a page again, with what the authority refused."""
        return self.render(template, _STATUS.get(error.code, 502), error=error.text, **values)

    async def failed(self, request: Request, error: Exception) -> Response:
        """Answer with an error's page, or with the log-in."""
        if isinstance(error, Ended) or getattr(error, "code", "") == "session-ended":
            if request.url.path in _SILENT:
                return Response(status_code=401)
            return RedirectResponse("/login", 303)
        if isinstance(error, HostError):
            status, text, hint = _STATUS.get(error.code, 502), error.text, error.hint
        elif isinstance(error, HTTPException):
            status, text, hint = error.status_code, error.detail or "there is no such page", ""
        else:
            status, text, hint = 500, "an error in the console", "report it"
        values = {"text": text, "hint": hint, "code": getattr(error, "code", "")}
        return self.render("error.html", status, title="Not done", **values)


def page_number(request: Request) -> int:
    """Return the page that an address asks for, from 0; its `page` counts from 1."""
    given = decimal(request.query_params.get("page", "1"), 9999)
    if given is None:
        raise HTTPException(400, "page is no number")
    return min(max(given, 1), MAX_PAGE) - 1


def begin_of(request: Request) -> str:
    """Return where an address says that a page of a log begins, or "". Raises 400."""
    given = request.query_params.get("begin", "")
    if len(given) > _MAX_BEGIN or not set(given) <= _OF_BEGIN:
        raise HTTPException(400, "this is no place in the log")
    return given


def refusal(error: HostError) -> Line:
    """Return the verdict that an error gives. Raises it where the session has ended."""
    if error.code == "session-ended":
        raise error
    return {"ok": False, "code": error.code, "text": error.text, "hint": error.hint}


async def read_fields(request: Request) -> dict[str, str]:
    """Return a form's fields. Raises 400 for one too large, and where a field comes twice."""
    try:
        text = (await request.body()).decode()
        pairs = parse_qsl(text, True, True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise HTTPException(400, "the form is of another kind") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise HTTPException(400, "the form has a field twice")
    return fields


async def read_object(request: Request) -> Line:
    """Return what a script sent as JSON. Raises 400."""
    try:
        return jsontext.parse_object(await request.body(), MAX_BODY, depth=8)
    except HostError:
        raise HTTPException(400, "the request is no object of JSON") from None


def _event(line: bytes) -> bytes:
    return b"data: " + line + b"\n"
