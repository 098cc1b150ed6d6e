"""What each request of the console and its API meets first, without a socket."""

from types import SimpleNamespace
from typing import Any

import pytest
from asgi_kit import HOST, ORIGIN, Answer, AuthorityModel, scope_of, sent_by
from warden_host.errors import HostError
from warden_host.web.api import cors
from warden_host.web.api.cors import Cors
from warden_host.web.asked import unasked
from warden_host.web.guard import EVENTS, Guard

PAGE, API = "/logout", "/api/v1/token"
OWN = ("origin", ORIGIN)
LENGTH = ("content-length", "5")


class Inner:
    """The application behind: it answers each request with 200, and notes its path."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.unasked: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope["path"])
        self.unasked.append(unasked.get())
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "websocket.accept"})


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", [], 200),
        ("HEAD", "/", [], 200),
        ("POST", PAGE, [OWN, LENGTH], 200),
        ("POST", PAGE, [OWN, ("content-length", "16384")], 200),
        ("GET", "/", [("host", "evil.example")], 421),
        ("GET", "/", [("host", HOST), ("host", "evil.example")], 421),
        ("GET", API, [("host", "evil.example")], 421),
        ("PUT", PAGE, [OWN, LENGTH], 405),
        ("OPTIONS", PAGE, [OWN, LENGTH], 405),
        ("PUT", API, [LENGTH], 405),
        ("POST", PAGE, [OWN], 411),
        ("POST", API, [], 411),
        ("POST", PAGE, [OWN, ("content-length", "+5")], 411),
        ("POST", PAGE, [OWN, LENGTH, ("transfer-encoding", "chunked")], 411),
        ("POST", PAGE, [OWN, ("content-length", "16385")], 413),
        ("POST", API, [("content-length", "16385")], 413),
        ("POST", PAGE, [LENGTH], 403),
        ("POST", PAGE, [OWN, OWN, LENGTH], 403),
        ("POST", PAGE, [("origin", "null"), LENGTH], 403),
        ("POST", PAGE, [("origin", f"https://{HOST}"), LENGTH], 403),
        ("GET", "/", [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], 403),
        ("GET", API, [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")], 200),
        ("POST", API, [LENGTH], 200),
        ("POST", API, [LENGTH, ("origin", "https://app.example")], 200),
        ("OPTIONS", API, [("origin", "https://app.example")], 200),
        ("GET", API, [OWN, OWN], 403),
    ],
)
def test_a_request_that_is_refused_goes_no_further(inner, method, path, headers, status):
    guard = Guard(inner, frozenset([HOST]), False)
    found = Answer(guard, scope_of(method, path, *headers))
    assert (found.status, inner.reached) == (status, [path] if status == 200 else [])
    assert found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "headers", "passes"),
    [
        (EVENTS, [], True),
        (EVENTS, [("origin", "https://app.example")], True),  # the API looks at it
        (EVENTS, [("host", "evil.example")], False),
        ("/live", [], False),
        (API, [], False),
    ],
)
def test_a_websocket_goes_to_the_api_alone(inner, path, headers, passes):
    guard = Guard(inner, frozenset([HOST]), False)
    sent = sent_by(guard, scope_of("GET", path, *headers, kind="websocket"))
    if passes:
        assert (sent, inner.reached) == ([{"type": "websocket.accept"}], [path])
    else:
        assert (sent, inner.reached) == ([{"type": "websocket.close", "code": 1008}], [])


@pytest.mark.parametrize(
    ("method", "path", "headers", "is_unasked"),
    [
        ("GET", "/", [], False),
        ("GET", "/?unasked=1", [], True),
        ("GET", "/", [("sec-fetch-mode", "cors")], True),
        ("POST", PAGE, [OWN, LENGTH, ("sec-fetch-mode", "cors")], False),  # it took a click
    ],
)
def test_who_asks_is_known_behind_the_guard(inner, method, path, headers, is_unasked):
    Answer(Guard(inner, frozenset([HOST]), False), scope_of(method, path, *headers))
    assert inner.unasked == [is_unasked]


PAGE_OF = ("origin", "https://app.example")
GONE = HostError("not-serving", "nobody serves")


def from_page(kind: str = "http", origin: tuple[str, str] = PAGE_OF) -> Any:
    return scope_of("GET", "/token", origin, kind=kind)


def test_a_request_of_no_page_asks_for_no_origin(inner):
    authority = AuthorityModel(api_origin=GONE)
    assert Answer(Cors(inner, authority), scope_of("GET", "/token")).status == 200
    assert (authority.asked, inner.reached) == ([], ["/token"])


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        ([{"ok": True, "allowed": False}], 403, "origin-refused"),
        ([{"ok": True, "allowed": 1}], 403, "origin-refused"),
        ([{"ok": True}], 403, "origin-refused"),
        (GONE, 503, "not-serving"),
    ],
)
def test_an_origin_that_the_authority_does_not_allow(inner, answer, status, code):
    app = Cors(inner, AuthorityModel(api_origin=answer))
    found = Answer(app, from_page())
    assert (found.status, found.problem) == (status, code)
    assert "access-control-allow-origin" not in found.headers
    assert sent_by(app, from_page("websocket")) == [{"type": "websocket.close", "code": 1008}]
    assert inner.reached == []


def test_an_origin_is_asked_for_within_bounds(inner, monkeypatch):
    """For 2 seconds an allowed one counts; no more than 64 are kept, and none of 300 letters."""
    now = [100.0]
    monkeypatch.setattr(cors, "time", SimpleNamespace(monotonic=lambda: now[0]))
    authority = AuthorityModel(api_origin=[{"ok": True, "allowed": True}])
    app = Cors(inner, authority)
    counts = []
    for seconds in (0.0, 1.9, 0.2, 0.0):
        now[0] += seconds
        assert Answer(app, from_page()).headers["access-control-allow-origin"] == PAGE_OF[1]
        counts.append(len(authority.asked))
    assert counts == [1, 1, 2, 2]
    assert Answer(app, from_page(origin=("origin", "https://" + "a" * 249))).status == 403
    assert len(authority.asked) == 2
    for number in range(70):
        Answer(app, from_page(origin=("origin", f"https://a{number}.example")))
    assert len(app._kept) == 64
    before = len(authority.asked)
    Answer(app, from_page())  # the oldest gave way
    Answer(app, from_page(origin=("origin", "https://a69.example")))
    assert len(authority.asked) == before + 1


def test_an_allowed_page_may_open_a_websocket(inner):
    app = Cors(inner, AuthorityModel(api_origin=[{"ok": True, "allowed": True}]))
    assert sent_by(app, from_page("websocket")) == [{"type": "websocket.accept"}]
